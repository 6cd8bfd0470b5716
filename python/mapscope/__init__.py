"""mapscope: see inside Go maps from the debugger."""
