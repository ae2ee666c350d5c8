"""Llama 4 itself: hyper-parameters, tokenizer, chat template, where an answer ends."""
