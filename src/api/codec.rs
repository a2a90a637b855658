//! The codec of every method: for prost's messages, and for those whose bytes are shared.
//!
//! tonic's own allocates 8 KiB for each request and as much for its response, for as long as the watch lives. Nearly all
//! of our messages are shorter than a hundredth of that.

use std::marker::PhantomData;

use bytes::BufMut;
use prost::Message;
use tonic::{
    Status,
    codec::{BufferSettings, Codec, EncodeBuf, Encoder},
};
use tonic_prost::{ProstCodec, ProstDecoder};

/// Initial bytes of a buffer. It grows to what the message needs.
const BUFFER_SIZE: usize = 256;
/// Messages are sent together up to this many bytes.
const BATCH_SIZE: usize = 8 * 1024;

/// A message that can be sent.
pub(super) trait Encode {
    /// How many bytes it takes.
    fn length(&self) -> usize;

    /// Appends its bytes.
    fn encode_to(&self, buffer: &mut impl BufMut);
}

impl<T: Message> Encode for T {
    fn length(&self) -> usize {
        self.encoded_len()
    }

    fn encode_to(&self, buffer: &mut impl BufMut) {
        self.encode_raw(buffer);
    }
}

/// Encodes `T`, decodes `U`.
#[derive(Clone, Copy, Debug)]
pub(super) struct ApiCodec<T, U>(PhantomData<(T, U)>);

impl<T, U> Default for ApiCodec<T, U> {
    fn default() -> Self {
        Self(PhantomData)
    }
}

impl<T, U> Codec for ApiCodec<T, U>
where
    T: Encode + Send + 'static,
    U: Message + Default + Send + 'static,
{
    type Encode = T;
    type Decode = U;
    type Encoder = Self;
    type Decoder = ProstDecoder<U>;

    fn encoder(&mut self) -> Self::Encoder {
        Self::default()
    }

    fn decoder(&mut self) -> Self::Decoder {
        ProstCodec::<U, U>::raw_decoder(BufferSettings::new(BUFFER_SIZE, BATCH_SIZE))
    }
}

impl<T: Encode, U> Encoder for ApiCodec<T, U> {
    type Item = T;
    type Error = Status;

    fn encode(&mut self, item: T, buffer: &mut EncodeBuf<'_>) -> Result<(), Status> {
        // Reserve exactly: a buffer that grows by itself doubles.
        buffer.reserve(item.length());
        item.encode_to(buffer);
        Ok(())
    }

    fn buffer_settings(&self) -> BufferSettings {
        BufferSettings::new(BUFFER_SIZE, BATCH_SIZE)
    }
}
