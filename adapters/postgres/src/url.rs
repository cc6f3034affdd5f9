//! The parameters of a URL that the client library does not take: taken out of it, and read here.

/// Their names.
const OURS: [&str; 5] = ["archive_tablespace", "sslmode", "sslrootcert", "sslcert", "sslkey"];

/// A URL (`postgres://..`) or words (`host=.. user=..`) without our parameters, and these.
pub(crate) struct Url {
    /// What the client library takes.
    pub(crate) rest: String,
    ours: Vec<(&'static str, String)>,
}

impl Url {
    /// Takes our parameters out of what is said. Of one that is said twice, the last holds. Where parameters begin and
    /// end is as the client library sees it.
    pub(crate) fn split(said: &str) -> Self {
        let prefix = ["postgres://", "postgresql://"].into_iter().find(|prefix| said.starts_with(prefix));
        let Some(prefix) = prefix else { return Self::split_words(said) };
        // A user and a password come first, and may have a question mark in them.
        let after = said[prefix.len()..].find('@').map_or(prefix.len(), |at| prefix.len() + at + 1);
        let Some(mark) = said[after..].find('?').map(|mark| after + mark + 1) else {
            return Self { rest: said.to_owned(), ours: Vec::new() };
        };
        let (mut ours, mut others) = (Vec::new(), Vec::new());
        for parameter in said[mark..].split('&') {
            match parameter.split_once('=').and_then(|(name, value)| Some((of_ours(name)?, decoded(value)))) {
                Some(found) => ours.push(found),
                None => others.push(parameter),
            }
        }
        Self { rest: format!("{}{}", &said[..mark], others.join("&")), ours }
    }

    /// The same of words: `name = value`, where a value may stand between single quotes and a backslash takes what
    /// follows it as it is.
    fn split_words(said: &str) -> Self {
        let (mut ours, mut others, mut left) = (Vec::new(), String::new(), said.trim_start());
        while !left.is_empty() {
            let name_ends = left.find(|c: char| c == '=' || c.is_whitespace()).unwrap_or(left.len());
            let Some(value) = left[name_ends..].trim_start().strip_prefix('=').map(str::trim_start) else {
                // Not a parameter: the client library says so.
                others.push_str(left);
                break;
            };
            let (read, length) = word(value);
            let end = left.len() - value.len() + length;
            match of_ours(&left[..name_ends]) {
                Some(name) => ours.push((name, read)),
                None => others.extend([&left[..end], " "]),
            }
            left = left[end..].trim_start();
        }
        Self { rest: others.trim_end().to_owned(), ours }
    }

    /// The value of a parameter of ours.
    pub(crate) fn get(&self, name: &str) -> Option<&str> {
        self.ours.iter().rev().find(|(found, _)| *found == name).map(|(_, value)| value.as_str())
    }
}

fn of_ours(name: &str) -> Option<&'static str> {
    OURS.into_iter().find(|ours| *ours == name)
}

/// The value that a text begins with, and how many bytes of the text it takes.
fn word(text: &str) -> (String, usize) {
    let quoted = text.starts_with('\'');
    let (mut read, mut chars) = (String::new(), text.char_indices().skip(usize::from(quoted)));
    while let Some((at, c)) = chars.next() {
        match c {
            '\'' if quoted => return (read, at + 1),
            c if !quoted && c.is_whitespace() => return (read, at),
            '\\' => read.extend(chars.next().map(|(_, c)| c)),
            c => read.push(c),
        }
    }
    (read, text.len())
}

fn decoded(value: &str) -> String {
    percent_encoding::percent_decode_str(value).decode_utf8_lossy().into_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn our_parameters_are_taken_out_and_the_others_stay() {
        let url = Url::split("postgres://u@h/d?sslmode=verify-full&connect_timeout=3&sslrootcert=%2Fa%20b");
        assert_eq!(url.rest, "postgres://u@h/d?connect_timeout=3");
        assert_eq!((url.get("sslmode"), url.get("sslrootcert")), (Some("verify-full"), Some("/a b")));
        assert_eq!(url.get("sslkey"), None);
        let words = Url::split("host=h sslmode = 'require'\n user=u\tsslmode=verify-ca");
        assert_eq!((words.rest.as_str(), words.get("sslmode")), ("host=h user=u", Some("verify-ca")));
        let odd = Url::split(r"sslrootcert='/a b\'c' password='x sslmode=disable' sslkey=/a\ b");
        assert_eq!(odd.rest, "password='x sslmode=disable'");
        assert_eq!((odd.get("sslrootcert"), odd.get("sslkey")), (Some("/a b'c"), Some("/a b")));
        let password = Url::split("postgresql://u:a?b@h/d?sslmode=require");
        assert_eq!(
            (password.rest.as_str(), password.get("sslmode")),
            ("postgresql://u:a?b@h/d?", Some("require"))
        );
        for plain in [
            "postgres://u@h/d",
            "postgres://u@h/d?options=-c%20a%3Db",
            "host=h user=u",
            "host=h 'odd",
            "nonsense",
            "options='a://b?sslmode=disable'",
        ] {
            assert_eq!(Url::split(plain).rest, plain);
        }
    }
}
