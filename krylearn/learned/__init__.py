"""Learned parts: each fits a socket of a classical solver, none can spoil an answer."""
