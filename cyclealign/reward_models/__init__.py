"""Reward models: from a folder or the hub, and Open-Assistant's."""
