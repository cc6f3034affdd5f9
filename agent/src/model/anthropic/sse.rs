//! Server-sent events (HTML standard, 9.2.6) from bytes as they come.
//!
//! Only `data` is read: the Messages API repeats an event's name inside of it.

/// Takes in bytes and gives the data of each event that they complete.
#[derive(Debug, Default)]
pub(super) struct Lines {
    line: Vec<u8>,
    data: Vec<u8>,
    /// The last byte was a carriage return, so that a line feed now belongs to it.
    returned: bool,
}

impl Lines {
    pub(super) fn feed(&mut self, bytes: &[u8], mut on_data: impl FnMut(&[u8])) {
        for &byte in bytes {
            let after_return = std::mem::replace(&mut self.returned, byte == b'\r');
            match byte {
                b'\n' if after_return => {}
                b'\n' | b'\r' => self.end_line(&mut on_data),
                _ => self.line.push(byte),
            }
        }
    }

    fn end_line(&mut self, on_data: &mut impl FnMut(&[u8])) {
        let line = std::mem::take(&mut self.line);
        if line.is_empty() {
            let data = std::mem::take(&mut self.data);
            if !data.is_empty() {
                on_data(&data);
            }
        } else if let Some(value) = line.strip_prefix(b"data:") {
            if !self.data.is_empty() {
                self.data.push(b'\n');
            }
            self.data.extend_from_slice(value.strip_prefix(b" ").unwrap_or(value));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(chunks: &[&str]) -> Vec<String> {
        let (mut lines, mut found) = (Lines::default(), Vec::new());
        for chunk in chunks {
            lines.feed(chunk.as_bytes(), |data| found.push(String::from_utf8_lossy(data).into_owned()));
        }
        found
    }

    #[test]
    fn events_are_the_same_however_their_bytes_are_cut_and_their_lines_end() {
        for text in [
            "event: a\ndata: 1\n\n: comment\n\ndata: 2\ndata:3\n\ndata: unfinished\n",
            "event: a\r\ndata: 1\r\n\r\n: comment\r\n\r\ndata: 2\r\ndata:3\r\n\r\ndata: unfinished\r\n",
            "event: a\rdata: 1\r\r: comment\r\rdata: 2\rdata:3\r\rdata: unfinished\r",
        ] {
            let bytes: Vec<_> = text.split("").collect();
            assert_eq!(read(&[text]), ["1", "2\n3"]);
            assert_eq!(read(&bytes), ["1", "2\n3"]);
        }
    }
}
