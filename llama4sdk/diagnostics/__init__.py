"""The doctor: facts about a machine and an installation, and their judgement."""
