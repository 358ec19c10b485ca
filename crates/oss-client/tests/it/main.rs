//! The client against the emulator, and against servers that misbehave on purpose.

mod emulated;
mod prefetching;
mod scripted;
mod support;
mod uploading;
