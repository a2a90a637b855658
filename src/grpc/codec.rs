//! prost's codec, with buffers that begin small.
//!
//! tonic begins with 8 KiB for each request and as much for its answer. Nearly all of ours are shorter than a hundredth of
//! that, and what is allocated between two such buffers and stays, as a watch does, leaves holes of that size in the heap.

use std::marker::PhantomData;

use prost::Message;
use tonic::codec::{BufferSettings, Codec};
use tonic_prost::{ProstCodec, ProstDecoder, ProstEncoder};

/// Bytes that a buffer has at first. It grows to what the message needs.
const BUFFER: usize = 256;
/// Bytes that are encoded before they are sent: tonic's own measure.
const ENOUGH: usize = 32 * 1024;

/// The codec of every method.
#[derive(Clone, Copy, Debug)]
pub(in crate::grpc) struct SmallCodec<T, U>(PhantomData<(T, U)>);

impl<T, U> Default for SmallCodec<T, U> {
    fn default() -> Self {
        Self(PhantomData)
    }
}

impl<T, U> Codec for SmallCodec<T, U>
where
    T: Message + Send + 'static,
    U: Message + Default + Send + 'static,
{
    type Encode = T;
    type Decode = U;
    type Encoder = ProstEncoder<T>;
    type Decoder = ProstDecoder<U>;

    fn encoder(&mut self) -> Self::Encoder {
        ProstCodec::<T, U>::raw_encoder(BufferSettings::new(BUFFER, ENOUGH))
    }

    fn decoder(&mut self) -> Self::Decoder {
        ProstCodec::<T, U>::raw_decoder(BufferSettings::new(BUFFER, ENOUGH))
    }
}
