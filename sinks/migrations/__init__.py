"""Numbered SQL migrations; they run on a ClickHouse server and on chDB alike."""
