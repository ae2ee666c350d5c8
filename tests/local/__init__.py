"""Tests of what engines that run a network themselves share."""
