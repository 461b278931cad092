"""The text demo model: generators of its training text, its tokenizer, its training and its evaluation."""
