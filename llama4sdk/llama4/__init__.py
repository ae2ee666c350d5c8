"""Llama 4 itself: hyper-parameters, tokenizer, chat template, images, where an answer ends."""
