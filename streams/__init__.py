"""Faust agents: decode, one kernel call, sinks, acknowledge."""
