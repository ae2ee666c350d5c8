"""Requests that may go to several places."""
