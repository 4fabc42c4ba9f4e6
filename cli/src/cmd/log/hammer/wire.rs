//! How writers send: HTTP/1.1 on one connection each, one request after the other, with nothing around it.
//! Load that is made on the cores of the log must cost little; a client for everything takes as long for a
//! request as the log does.

use super::target::Target;
use countersign_client::http::Error;
use countersign_client::retry::{self, Patience};
use std::io::{self, ErrorKind};
use std::time::{Duration, Instant};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;
use tokio::sync::Mutex;
use tokio::time::timeout;
use url::Url;

/// Largest answer, in bytes, as elsewhere: an entry with its proof is below 256 KiB.
const MAX_ANSWER: usize = 1 << 20;
/// Largest head of an answer, in bytes.
const MAX_HEAD: usize = 16 << 10;
/// The least and the longest wait for one answer, as elsewhere.
const WAIT: (Duration, Duration) = (Duration::from_secs(1), Duration::from_secs(30));

/// One writer's way to the log.
pub(super) struct Wire {
    /// None over TLS, and where an answer came in another form than this reads: then the client of the
    /// rest of the program sends.
    plain: Option<Mutex<Plain>>,
}

struct Plain {
    address: (String, u16),
    /// The request's head, up to the length.
    head: String,
    stream: Option<TcpStream>,
    buffer: Vec<u8>,
}

struct Answer {
    status: u16,
    retry_after: Option<Duration>,
    body: Vec<u8>,
}

impl Wire {
    pub(super) fn new(url: &Url) -> Self {
        let plain = (url.scheme() == "http").then(|| {
            let host = url.host_str()?.to_owned();
            let port = url.port_or_known_default()?;
            let head = format!(
                "POST {} HTTP/1.1\r\nhost: {host}:{port}\r\ncontent-type: application/json\r\ncontent-length: ",
                url.path()
            );
            let address = (host.trim_matches(['[', ']']).to_owned(), port);
            Some(Mutex::new(Plain { address, head, stream: None, buffer: Vec::new() }))
        });
        Self { plain: plain.flatten() }
    }

    /// Posts JSON to the log, again while it is busy or away and there is time.
    pub(super) async fn post(&mut self, target: &Target, json: &[u8]) -> Result<Vec<u8>, Error> {
        if let Some(plain) = &self.plain {
            let patience = Patience { deadline: target.deadline, insist: true };
            let once = || async {
                let left = target.deadline.saturating_duration_since(Instant::now());
                let answer = async { plain.lock().await.post(json).await };
                let answer = timeout(left.clamp(WAIT.0, WAIT.1), answer).await;
                match answer.unwrap_or_else(|_| Err(ErrorKind::TimedOut.into())) {
                    Ok(Answer { status: 200..=299, body, .. }) => Ok(Some(body)),
                    Ok(Answer { status, retry_after, body }) => Err(Error::Status {
                        url: target.url.to_string(),
                        status,
                        message: String::from_utf8_lossy(&body).chars().take(300).collect(),
                        retry_after,
                        location: None,
                    }),
                    Err(error) if error.kind() == ErrorKind::Unsupported => Ok(None),
                    Err(error) => {
                        let (url, reason) = (target.url.to_string(), error.to_string());
                        Err(Error::Unreachable { url, reason })
                    }
                }
            };
            if let Some(body) = retry::repeat(patience, super::retried, once).await? {
                return Ok(body);
            }
            self.plain = None;
        }
        target.http.post(&target.url, "application/json", json, None).await
    }
}

impl Plain {
    /// A connection that was closed while nothing was under way is made anew.
    async fn post(&mut self, json: &[u8]) -> io::Result<Answer> {
        loop {
            // It is put back when an answer has come whole, so that the next one reads no rest of this.
            let kept = self.stream.take();
            let reused = kept.is_some();
            let mut stream = match kept {
                Some(stream) => stream,
                None => {
                    let stream =
                        TcpStream::connect((self.address.0.as_str(), self.address.1)).await?;
                    stream.set_nodelay(true)?;
                    stream
                }
            };
            self.buffer.clear();
            self.buffer.extend_from_slice(self.head.as_bytes());
            self.buffer.extend_from_slice(json.len().to_string().as_bytes());
            self.buffer.extend_from_slice(b"\r\n\r\n");
            self.buffer.extend_from_slice(json);
            let sent = stream.write_all(&self.buffer).await;
            self.buffer.clear();
            let answer = match sent {
                Ok(()) => self.answer(&mut stream).await,
                Err(error) => Err(error),
            };
            match answer {
                Ok((answer, keep)) => {
                    self.stream = keep.then_some(stream);
                    return Ok(answer);
                }
                Err(_) if reused && self.buffer.is_empty() => {}
                Err(error) => return Err(error),
            }
        }
    }

    /// Reads an answer, and whether the connection stays.
    async fn answer(&mut self, stream: &mut TcpStream) -> io::Result<(Answer, bool)> {
        let end = loop {
            if let Some(end) = self.buffer.windows(4).position(|bytes| bytes == b"\r\n\r\n") {
                break end + 4;
            }
            if self.buffer.len() > MAX_HEAD {
                return Err(ErrorKind::Unsupported.into());
            }
            self.more(stream).await?;
        };
        let head = String::from_utf8_lossy(&self.buffer[..end]);
        let mut lines = head.split("\r\n");
        let status = lines.next().and_then(|line| line.split(' ').nth(1)?.parse().ok());
        let (mut length, mut retry_after, mut keep) = (None, None, true);
        for (name, value) in lines.filter_map(|line| line.split_once(':')) {
            let value = value.trim();
            if name.eq_ignore_ascii_case("content-length") {
                length = value.parse().ok();
            } else if name.eq_ignore_ascii_case("retry-after") {
                retry_after = value.parse().ok().map(Duration::from_secs);
            } else if name.eq_ignore_ascii_case("connection") {
                keep = !value.eq_ignore_ascii_case("close");
            }
        }
        let (Some(status), Some(length)) = (status, length.filter(|it: &usize| *it <= MAX_ANSWER))
        else {
            return Err(ErrorKind::Unsupported.into());
        };
        while self.buffer.len() < end + length {
            self.more(stream).await?;
        }
        let body = self.buffer[end..end + length].to_vec();
        Ok((Answer { status, retry_after, body }, keep))
    }

    async fn more(&mut self, stream: &mut TcpStream) -> io::Result<()> {
        self.buffer.reserve(8 << 10);
        match stream.read_buf(&mut self.buffer).await? {
            0 => Err(ErrorKind::UnexpectedEof.into()),
            _ => Ok(()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use tokio::net::TcpListener;

    /// Answers one request on each connection it is told of, in pieces.
    async fn ask(pieces: Vec<Vec<&'static [u8]>>) -> Vec<io::Result<(u16, Vec<u8>)>> {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let port = listener.local_addr().unwrap().port();
        let server = tokio::spawn(async move {
            let mut asked = 0;
            for connection in pieces {
                let (mut stream, _) = listener.accept().await.unwrap();
                let mut request = [0; 256];
                asked += stream.read(&mut request).await.unwrap();
                for piece in connection {
                    stream.write_all(piece).await.unwrap();
                    tokio::task::yield_now().await;
                }
            }
            asked
        });
        let url = Url::parse(&format!("http://127.0.0.1:{port}/log")).unwrap();
        let plain = Wire::new(&url).plain.unwrap();
        let mut answers = Vec::new();
        for _ in 0..2 {
            let answer = plain.lock().await.post(b"{}").await;
            answers.push(answer.map(|answer| (answer.status, answer.body)));
        }
        assert!(server.await.unwrap() > 0);
        answers
    }

    #[tokio::test]
    async fn an_answer_is_read_whole_and_a_connection_that_was_closed_is_made_anew() {
        let first = [&b"HTTP/1.1 201 Created\r\nContent-Le"[..], b"ngth: 5\r\n\r\nen", b"try"];
        let second: [&[u8]; 1] = [b"HTTP/1.1 503 Busy\r\ncontent-length: 0\r\n\r\n"];
        let answers = ask(vec![first.to_vec(), second.to_vec()]).await;
        let answers: Vec<_> = answers.into_iter().map(Result::unwrap).collect();
        assert_eq!(answers, [(201, b"entry".to_vec()), (503, vec![])]);
    }

    #[tokio::test]
    async fn what_is_cut_short_or_has_no_length_is_no_answer() {
        let cut: [&[u8]; 1] = [b"HTTP/1.1 201 Created\r\ncontent-length: 5\r\n\r\nen"];
        let chunked: [&[u8]; 1] =
            [b"HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n0\r\n\r\n"];
        let answers = ask(vec![cut.to_vec(), chunked.to_vec()]).await;
        let kinds = answers.into_iter().map(|answer| answer.unwrap_err().kind());
        assert!(kinds.eq([ErrorKind::UnexpectedEof, ErrorKind::Unsupported]));
    }
}
