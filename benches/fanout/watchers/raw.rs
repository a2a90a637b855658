//! Clients of the raw loop.

use std::{net::SocketAddr, rc::Rc};

use tokio::{
    io::AsyncReadExt as _,
    net::TcpStream,
    task::{JoinHandle, spawn_local},
};

use super::Heard;
use crate::{servers::record_len, support::Outcome};

pub(super) async fn open(address: SocketAddr, heard: &Rc<Heard>) -> Outcome<JoinHandle<()>> {
    let stream = TcpStream::connect(address).await?;
    let heard = Rc::clone(heard);
    Ok(spawn_local(async move {
        if let Err(error) = read(stream, &heard).await {
            heard.failed(error.to_string());
        }
    }))
}

async fn read(mut stream: TcpStream, heard: &Heard) -> Outcome<()> {
    let mut buffer = vec![0; 64 * record_len()];
    let (mut filled, mut first) = (0, true);
    loop {
        let read = stream.read(&mut buffer[filled..]).await?;
        if read == 0 {
            return Err("the server closed a connection".into());
        }
        filled += read;
        let mut records = buffer[..filled].chunks_exact(record_len());
        for record in records.by_ref() {
            if std::mem::take(&mut first) {
                heard.ready();
                continue;
            }
            heard.published_at(u64::from_le_bytes(record[..8].try_into()?));
            heard.delivered(1);
        }
        let rest = records.remainder().len();
        buffer.copy_within(filled - rest..filled, 0);
        filled = rest;
    }
}
