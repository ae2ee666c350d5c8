"""The probe: one module of tests for each maker whose drivers are asked."""
