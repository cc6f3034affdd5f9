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
    /// Takes our parameters out of what is said. Of one that is said twice, the last holds.
    pub(crate) fn split(said: &str) -> Self {
        let is_url = said.contains("://");
        let (before, parameters, separator) = match said.split_once('?') {
            Some((before, parameters)) if is_url => (format!("{before}?"), parameters, '&'),
            _ if is_url => return Self { rest: said.to_owned(), ours: Vec::new() },
            _ => (String::new(), said, ' '),
        };
        let (mut ours, mut others) = (Vec::new(), Vec::new());
        for parameter in parameters.split(separator) {
            let of_ours = parameter
                .split_once('=')
                .and_then(|(name, value)| Some((OURS.into_iter().find(|ours| *ours == name.trim())?, value)));
            match of_ours {
                Some((name, value)) if is_url => ours.push((name, decoded(value))),
                Some((name, value)) => ours.push((name, unquoted(value.trim()).to_owned())),
                None => others.push(parameter),
            }
        }
        Self { rest: format!("{before}{}", others.join(&separator.to_string())), ours }
    }

    /// The value of a parameter of ours.
    pub(crate) fn get(&self, name: &str) -> Option<&str> {
        self.ours.iter().rev().find(|(found, _)| *found == name).map(|(_, value)| value.as_str())
    }
}

fn decoded(value: &str) -> String {
    percent_encoding::percent_decode_str(value).decode_utf8_lossy().into_owned()
}

/// A value of words may stand between single quotes.
fn unquoted(value: &str) -> &str {
    value.strip_prefix('\'').and_then(|rest| rest.strip_suffix('\'')).unwrap_or(value)
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
        let words = Url::split("host=h sslmode='require' user=u sslmode=verify-ca");
        assert_eq!((words.rest.as_str(), words.get("sslmode")), ("host=h user=u", Some("verify-ca")));
        for plain in ["postgres://u@h/d", "postgres://u@h/d?options=-c%20a%3Db", "host=h user=u"] {
            assert_eq!(Url::split(plain).rest, plain);
        }
    }
}
