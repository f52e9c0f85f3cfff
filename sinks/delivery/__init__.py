"""Triggers out: to webhooks, to interfaces of others by templates, to members by e-mail."""
