"""The picture demo model: generators of its pictures and questions, its training and its evaluation."""
