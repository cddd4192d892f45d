"""Embedder and digit reader for synthetic matches: crops of people with their truth, networks, scoring, packaging.

Used by models/train_embedder.py, train_digits.py, eval_people.py and observe_people.py only.
"""
