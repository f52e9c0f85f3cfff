"""Triggers out: to webhooks."""
