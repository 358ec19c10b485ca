//! x
use super::XmlError;
macro_rules! t { ($n:ident {$($f:ident: $t:ty),*}) => { #[allow(missing_docs)] #[derive(Debug)] pub struct $n { $(pub $f: $t),* } #[allow(missing_docs)] impl $n { pub fn parse(_b:&[u8])->Result<Self,XmlError>{ unimplemented!() } pub fn to_xml(&self)->String{ unimplemented!() } } } }
t!(B { name: String });
t!(ListBucketsResult { buckets: Vec<B>, next_marker: Option<String>, is_truncated: bool });
