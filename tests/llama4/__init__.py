"""Llama 4 itself: tokenizer, template, stops."""
