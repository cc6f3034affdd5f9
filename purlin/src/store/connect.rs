//! Which engine serves, said at run time by a URL.

use std::collections::BTreeMap;
use std::sync::Arc;

use super::{BoxFuture, Cause, Store, transfer};

type Open = Arc<dyn Fn(String, String) -> BoxFuture<'static, Result<Store, Cause>> + Send + Sync>;

/// The engines that a program knows, by URL scheme; `memory:` is always among them.
#[derive(Clone)]
pub struct Stores {
    schemes: BTreeMap<&'static str, Open>,
}

impl Stores {
    /// Only `memory:`.
    pub fn new() -> Self {
        Self { schemes: BTreeMap::new() }.with("memory", |_, _| async { Ok(Store::memory()) })
    }

    /// Adds an engine: `open` gets what stands behind `scheme:` and the name of the service.
    pub fn with<F, Fut>(mut self, scheme: &'static str, open: F) -> Self
    where
        F: Fn(String, String) -> Fut + Send + Sync + 'static,
        Fut: Future<Output = Result<Store, Cause>> + Send + 'static,
    {
        self.schemes.insert(scheme, Arc::new(move |rest, name| Box::pin(open(rest, name))));
        self
    }

    /// Opens the store of the service `name` at `url`.
    pub async fn open(&self, url: &str, name: &str) -> Result<Store, OpenError> {
        let (scheme, rest) = url.split_once(':').ok_or_else(|| self.unknown(url))?;
        let open = self.schemes.get(scheme).ok_or_else(|| self.unknown(url))?;
        let failed = |source| OpenError::Failed { name: name.to_owned(), url: without_password(url), source };
        let store = open(rest.to_owned(), name.to_owned()).await.map_err(failed)?;
        match transfer::unfinished(&store).await {
            Ok(None) => Ok(store),
            Ok(Some(_)) => {
                store.close().await;
                Err(OpenError::HalfImported { name: name.to_owned(), url: without_password(url) })
            }
            Err(error) => Err(failed(error.into())),
        }
    }

    fn unknown(&self, url: &str) -> OpenError {
        let known = self.schemes.keys().map(|scheme| format!("{scheme}:")).collect::<Vec<_>>().join(", ");
        OpenError::UnknownScheme { url: without_password(url), known }
    }
}

/// The URL as it may be shown: what stands between the name of a user and the `@` is nobody's business.
fn without_password(url: &str) -> String {
    let Some((scheme, rest)) = url.split_once("://") else { return url.to_owned() };
    let authority = rest.find(['/', '?']).unwrap_or(rest.len());
    match rest[..authority].rsplit_once('@') {
        Some((user, _)) if user.contains(':') => {
            let name = user.split(':').next().unwrap_or_default();
            format!("{scheme}://{name}:..{}", &rest[user.len()..])
        }
        _ => url.to_owned(),
    }
}

impl Default for Stores {
    fn default() -> Self {
        Self::new()
    }
}

/// A store could not be opened.
#[derive(Debug, thiserror::Error)]
pub enum OpenError {
    /// No engine has the URL's scheme.
    #[error("`{url}` is not the URL of a store; known are: {known}")]
    UnknownScheme {
        /// What was given.
        url: String,
        /// What is known.
        known: String,
    },
    /// An import into the store was cut off.
    #[error("the store of `{name}` at `{url}` is half imported: finish the import, or remove the store")]
    HalfImported {
        /// The service.
        name: String,
        /// Where its store is.
        url: String,
    },
    /// The engine refused.
    #[error("cannot open the store of `{name}` at `{url}`")]
    Failed {
        /// The service.
        name: String,
        /// Where its store should be.
        url: String,
        /// Why.
        #[source]
        source: Cause,
    },
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_error_does_not_show_a_password() {
        let shown = |url| without_password(url);
        assert_eq!(shown("postgres://ada:secret@db:5432/shop"), "postgres://ada:..@db:5432/shop");
        assert_eq!(shown("postgres://ada:s@cr:et@db/shop?x=a@b"), "postgres://ada:..@db/shop?x=a@b");
        for plain in ["postgres://ada@db/shop", "sqlite:data", "postgres://db/a@b:c"] {
            assert_eq!(shown(plain), plain);
        }
    }
}
