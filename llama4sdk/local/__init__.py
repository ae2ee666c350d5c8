"""Engines that run a network in this process: everything but the network itself.

    engine             ``LocalEngine``: requests in, events out; embeddings and scores
    scheduler          one ``step()`` for all running requests, admission by memory, preemption
    sequence           a request on its way through the network, and the ``ModelRunner`` that a plugin implements
    text_source        a model's tokenizer, prompt format and stopping tokens; a ``Checkpoint`` is one
    input_processor    from requests to token ids and the tiles of images
    output_processor   from tokens to text, stop strings, log-probabilities and tool calls
    structured_output  token masks of answers of a given shape
    windows            the windows in which a long text is scored
    memory_meter       measured memory beside the plan
    offer              offers for a network whose sizes are known

All of it comes with the extra ``llama4sdk[local]``, and needs no tensor library but numpy.
"""
