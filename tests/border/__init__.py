"""Where Python meets the native core: processes, signals, other threads, pickles, and the interpreter's end."""
