"""The admin listener: metrics, health, status and reload, for operators; and the client the command
line calls it with.
"""
