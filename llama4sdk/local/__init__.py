"""Engines that run a network themselves: what every one of them shares, whatever computes it.

    engine      ``LocalEngine``: requests in, events out; a subclass brings the token loop, embeddings and scores
    source      ``TextSource``: where its texts come from; a ``Checkpoint`` is one
    prompts     what the network is given: ids, and the tiles of images
    answers     what comes of its tokens: text, stop strings, log-probabilities, tool calls
    guidance    which tokens an answer of a given shape allows next
    scoring     what it says of one token of a text
    turns       whose turn it is, where memory was planned for so many at once
    metering    the memory it takes, beside the plan

All of it comes with the extra ``llama4sdk[local]``, and needs no tensor library but numpy.
"""
