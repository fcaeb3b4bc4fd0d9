//! Bytes and descriptors to lines, and messages to lines. No I/O: the property tests and the fuzz target put anything in.

use crate::{MAX_LINE, error::Broken, error::Error};
use serde::{Serialize, de::DeserializeOwned};
use std::{collections::VecDeque, io};
use zeroize::{Zeroize as _, Zeroizing};

/// A whole line, with its end, and what came with it.
#[derive(Debug, PartialEq, Eq)]
pub struct Line<F> {
    /// The bytes.
    pub bytes: Zeroizing<Vec<u8>>,
    /// The descriptors, in the order in which they were sent.
    pub descriptors: Vec<F>,
}

impl<F> Line<F> {
    /// The message that the line is, and its descriptors. Those of a line that is no message are dropped.
    ///
    /// # Errors
    /// [`Error::NotUnderstood`].
    pub fn parse<T: DeserializeOwned>(self) -> Result<(T, Vec<F>), Error> {
        let message = serde_json::from_slice(&self.bytes).map_err(Error::NotUnderstood)?;
        Ok((message, self.descriptors))
    }
}

/// Puts lines together from pieces of a stream, and gives each line the descriptors that were sent with it.
///
/// The kernel never reads beyond bytes that descriptors were sent with. So descriptors belong to the line of the *last*
/// byte that was read with them: earlier bytes may be of earlier messages.
pub struct Decoder<F> {
    most: usize,
    bytes: Zeroizing<Vec<u8>>,
    /// Where in `bytes` the first line begins that was not taken.
    head: usize,
    /// Before here there is no end of a line from `head` on.
    searched: usize,
    /// The place of `bytes[0]` in the stream.
    offset: u64,
    /// Each with the place in the stream of the byte that it came with.
    descriptors: VecDeque<(u64, F)>,
    /// How many of them belong to the line of the last byte.
    of_last: usize,
    /// The next byte begins a line.
    fresh: bool,
    /// The line with this byte of the stream breaks the connection.
    fault: Option<(u64, Broken)>,
    /// It is broken.
    dead: Option<Broken>,
}

impl<F> Decoder<F> {
    /// For lines with at most `most` descriptors.
    pub fn new(most: usize) -> Self {
        Self {
            most,
            bytes: Zeroizing::default(),
            head: 0,
            searched: 0,
            offset: 0,
            descriptors: VecDeque::new(),
            of_last: 0,
            fresh: true,
            fault: None,
            dead: None,
        }
    }

    /// The most descriptors of a line.
    pub fn most(&self) -> usize {
        self.most
    }

    /// Takes in what was read at once. `lost`: the kernel had more descriptors than it could hand over.
    pub fn push(&mut self, chunk: &[u8], descriptors: Vec<F>, lost: bool) {
        let [before @ .., last] = chunk else { return };
        if self.fault.is_some() || self.dead.is_some() {
            return;
        }
        let place = self.offset + (self.bytes.len() + before.len()) as u64;
        if self.fresh || before.contains(&b'\n') {
            self.of_last = 0;
        }
        let of_last = self.of_last + descriptors.len();
        // Who takes none gives the kernel no room for any.
        let too_many = of_last > self.most || (lost && self.most == 0);
        if too_many || lost {
            // Closed now, not when somebody asks for the line.
            self.descriptors.truncate(self.descriptors.len() - self.of_last);
            let why = if too_many { Broken::TooManyDescriptors(self.most) } else { Broken::DescriptorsLost };
            self.fault = Some((place, why));
        } else {
            self.descriptors.extend(descriptors.into_iter().map(|descriptor| (place, descriptor)));
            self.of_last = of_last;
        }
        self.fresh = *last == b'\n';
        self.compact();
        extend(&mut self.bytes, chunk);
    }

    /// The next whole line, if it has come.
    ///
    /// # Errors
    /// The connection is broken from here on; all that was held is gone.
    pub fn take(&mut self) -> Result<Option<Line<F>>, Broken> {
        if let Some(why) = self.dead {
            return Err(why);
        }
        let found = self.bytes[self.searched..].iter().position(|byte| *byte == b'\n');
        let end = found.map_or(self.bytes.len(), |at| self.searched + at + 1);
        let place = self.offset + end as u64;
        match (found, self.fault) {
            (Some(_), _) if end - self.head > MAX_LINE => Err(self.die(Broken::LineTooLong)),
            (None, _) if end - self.head >= MAX_LINE => Err(self.die(Broken::LineTooLong)),
            (_, Some((fault, why))) if fault < place => Err(self.die(why)),
            (None, _) => {
                self.searched = end;
                Ok(None)
            }
            (Some(_), _) => {
                let line = &mut self.bytes[self.head..end];
                let bytes = Zeroizing::new(line.to_vec());
                line.zeroize();
                (self.head, self.searched) = (end, end);
                let count = self.descriptors.iter().take_while(|(sent, _)| *sent < place).count();
                let descriptors = self.descriptors.drain(..count).map(|(_, descriptor)| descriptor).collect();
                Ok(Some(Line { bytes, descriptors }))
            }
        }
    }

    /// Whether more may be read while lines wait to be taken.
    pub fn has_room(&self) -> bool {
        self.dead.is_none()
            && self.fault.is_none()
            && self.bytes.len() - self.head <= MAX_LINE
            && self.descriptors.len() <= self.most
    }

    /// What the end of the stream means, once no whole line is left.
    pub fn end(&mut self) -> Error {
        match self.dead {
            Some(why) => why.into(),
            None if self.head < self.bytes.len() => self.die(Broken::Unfinished).into(),
            None => Error::Closed,
        }
    }

    fn die(&mut self, why: Broken) -> Broken {
        self.bytes = Zeroizing::default();
        (self.head, self.searched) = (0, 0);
        self.descriptors.clear();
        *self.dead.insert(why)
    }

    /// Gives up the room of lines that were taken, once they are most of it: each byte moves at most twice.
    fn compact(&mut self) {
        if self.head == self.bytes.len() || self.head > self.bytes.len() / 2 {
            self.bytes.copy_within(self.head.., 0);
            let left = self.bytes.len() - self.head;
            self.bytes[left..].zeroize();
            self.bytes.truncate(left);
            self.offset += self.head as u64;
            self.searched -= self.head;
            self.head = 0;
        }
    }
}

/// Appends without leaving a copy behind, as a vector does that grows.
fn extend(bytes: &mut Zeroizing<Vec<u8>>, more: &[u8]) {
    let len = bytes.len() + more.len();
    if len > bytes.capacity() {
        let mut larger = Zeroizing::new(Vec::with_capacity(len.next_power_of_two()));
        larger.extend_from_slice(bytes);
        *bytes = larger;
    }
    bytes.extend_from_slice(more);
}

/// The line of a message, with its end.
///
/// # Errors
/// [`Broken::LineTooLong`]: no connection takes it. [`Error::NotUnderstood`]: the message has no form in JSON.
pub fn encode<T: Serialize + ?Sized>(message: &T) -> Result<Zeroizing<Vec<u8>>, Error> {
    struct Wiped(Zeroizing<Vec<u8>>);
    impl io::Write for Wiped {
        fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
            if self.0.len() + bytes.len() >= MAX_LINE {
                return Err(io::ErrorKind::FileTooLarge.into());
            }
            extend(&mut self.0, bytes);
            Ok(bytes.len())
        }

        fn flush(&mut self) -> io::Result<()> {
            Ok(())
        }
    }
    let mut line = Wiped(Zeroizing::default());
    serde_json::to_writer(&mut line, message).map_err(|error| match error.io_error_kind() {
        Some(_) => Broken::LineTooLong.into(),
        None => Error::NotUnderstood(error),
    })?;
    extend(&mut line.0, b"\n");
    Ok(line.0)
}
