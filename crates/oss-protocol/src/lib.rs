//! The meaning of the bytes of Alibaba Cloud OSS: addresses, signatures, XML bodies, ranges, checksums and error codes.
//!
//! Nothing here opens a socket, reads a clock or looks at the environment. A time is always an argument, so that every
//! function gives the same answer for the same input. The client and the emulator are both built on this crate.
//!
//! | module | meaning |
//! | --- | --- |
//! | [`uri`], [`endpoint`], [`region`] | the addresses of buckets and keys, and their regions |
//! | [`credentials`], [`canonical`], [`sign`] | who asks, and how a request proves it |
//! | [`xml`], [`error_code`], [`header`] | what requests and replies carry |
//! | [`range`], [`crc64`], [`time`] | parts of objects, their checksums, and timestamps |

#[cfg(windows)]
compile_error!("osstorchconnector does not run on Windows: install it in WSL, the Windows Subsystem for Linux");

pub mod canonical;
pub mod crc64;
pub mod credentials;
pub mod endpoint;
pub mod error_code;
pub mod header;
pub mod pickle;
pub mod range;
pub mod region;
pub mod sign;
pub mod time;
pub mod uri;
pub mod xml;

pub use credentials::Credentials;
pub use endpoint::{Addressing, Endpoint, Scheme};
pub use error_code::ErrorCode;
pub use uri::OssUri;
