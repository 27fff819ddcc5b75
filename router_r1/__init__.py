"""Router-R1: a language model that learns to route sub-questions to other language models."""
