//! TCP over loopback: blocking, one thread an end.

use std::io::{Read, Write};
use std::net::{Ipv4Addr, SocketAddr, TcpListener, TcpStream};

use super::carrier::{ReceiveEnd, SendEnd};
use crate::SocketError;

/// What a receiver answers when it has all messages.
const RECEIPT: [u8; 1] = [1];

pub(super) struct Sender {
    stream: TcpStream,
    payload: Vec<u8>,
}

pub(super) struct Receiver {
    listener: TcpListener,
    stream: Option<TcpStream>,
    buffer: Vec<u8>,
}

impl Sender {
    pub fn connect(to: SocketAddr, message_bytes: usize) -> Result<Self, SocketError> {
        let stream = TcpStream::connect(to).map_err(SocketError::system("connect TCP"))?;
        Ok(Self {
            stream,
            payload: vec![0x5a; message_bytes],
        })
    }
}

impl SendEnd for Sender {
    fn carry(&mut self, messages: u32) -> Result<(), SocketError> {
        for _ in 0..messages {
            self.stream
                .write_all(&self.payload)
                .map_err(SocketError::system("send over TCP"))?;
        }
        self.stream
            .read_exact(&mut [0])
            .map_err(SocketError::system("wait for a receipt over TCP"))
    }

    fn lost_packets(&self) -> Option<u64> {
        None
    }
}

impl Receiver {
    pub fn listen(message_bytes: usize) -> Result<(SocketAddr, Self), SocketError> {
        let failed = || SocketError::system("listen for TCP");
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).map_err(failed())?;
        let address = listener.local_addr().map_err(failed())?;
        let end = Self {
            listener,
            stream: None,
            buffer: vec![0; message_bytes],
        };
        Ok((address, end))
    }
}

impl ReceiveEnd for Receiver {
    fn carry(&mut self, messages: u32) -> Result<(), SocketError> {
        let stream = match &mut self.stream {
            Some(stream) => stream,
            none => {
                let accepted = self.listener.accept();
                none.insert(accepted.map_err(SocketError::system("accept TCP"))?.0)
            }
        };
        for _ in 0..messages {
            stream
                .read_exact(&mut self.buffer)
                .map_err(SocketError::system("receive over TCP"))?;
        }
        stream
            .write_all(&RECEIPT)
            .map_err(SocketError::system("give a receipt over TCP"))
    }
}
