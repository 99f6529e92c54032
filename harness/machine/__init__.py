"""The machine: its network counters, memory, processors, processes and programs."""
