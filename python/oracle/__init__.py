"""A plain PyTorch model of what mistura's native engine computes.

It is written from the description of the model (docs/engine.md), not from the
engine: autograd makes the gradients, ``torch.optim.AdamW`` the steps. The engine's
tests run it and compare every tensor, so it must stay plain: one obvious
expression for each thing, no kernels, no caches, no in-place tricks.

Enter with ``python3 -m oracle --help``, or with :class:`oracle.model.Model`.
"""
