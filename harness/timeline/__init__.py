"""Timelines: five events for every chunk, recorded from readers and from the wire, checked, analysed and drawn."""
