//! SPDX licence expressions (<https://spdx.github.io/spdx-spec/v3.0.1/annexes/spdx-license-expressions/>).
//!
//! `WITH` binds tightest, then `AND`, then `OR`; a `/` between names is how `OR` was written before 2018.

use anyhow::{Result, bail};

/// Whether one may choose among the licences so that all that then hold are allowed.
///
/// A licence with an exception is one name: `Apache-2.0 WITH LLVM-exception`.
pub(super) fn satisfied(expression: &str, allowed: impl Fn(&str) -> bool) -> Result<bool> {
    let spaced = expression.replace('(', " ( ").replace(')', " ) ").replace('/', " OR ");
    let mut parser = Parser { words: spaced.split_whitespace().collect(), at: 0, allowed: &allowed };
    let satisfied = parser.either()?;
    match parser.peek() {
        None => Ok(satisfied),
        Some(word) => bail!("`{word}` is not expected"),
    }
}

struct Parser<'a> {
    words: Vec<&'a str>,
    at: usize,
    allowed: &'a dyn Fn(&str) -> bool,
}

impl<'a> Parser<'a> {
    fn either(&mut self) -> Result<bool> {
        let mut satisfied = self.all()?;
        while self.take("OR") {
            satisfied |= self.all()?;
        }
        Ok(satisfied)
    }

    fn all(&mut self) -> Result<bool> {
        let mut satisfied = self.one()?;
        while self.take("AND") {
            satisfied &= self.one()?;
        }
        Ok(satisfied)
    }

    fn one(&mut self) -> Result<bool> {
        if self.take("(") {
            let satisfied = self.either()?;
            if !self.take(")") {
                bail!("a parenthesis is not closed");
            }
            return Ok(satisfied);
        }
        let name = self.name()?;
        if self.take("WITH") {
            let exception = self.name()?;
            return Ok((self.allowed)(&format!("{name} WITH {exception}")));
        }
        Ok((self.allowed)(name))
    }

    fn name(&mut self) -> Result<&'a str> {
        match self.peek() {
            None => bail!("it ends where a licence is expected"),
            Some(word @ ("OR" | "AND" | "WITH" | "(" | ")")) => bail!("`{word}` where a licence is expected"),
            Some(name) => {
                self.at += 1;
                Ok(name)
            }
        }
    }

    fn peek(&self) -> Option<&'a str> {
        self.words.get(self.at).copied()
    }

    fn take(&mut self, word: &str) -> bool {
        let there = self.peek() == Some(word);
        self.at += usize::from(there);
        there
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn mit_and_isc(expression: &str) -> Result<bool> {
        satisfied(expression, |name| matches!(name, "MIT" | "ISC" | "Apache-2.0 WITH LLVM-exception"))
    }

    #[test]
    fn a_choice_needs_one_and_a_conjunction_all() {
        assert!(mit_and_isc("MIT OR GPL-2.0").expect("an expression"));
        assert!(!mit_and_isc("MIT AND GPL-2.0").expect("an expression"));
        assert!(mit_and_isc("MIT AND ISC").expect("an expression"));
        assert!(mit_and_isc("GPL-2.0/MIT").expect("an expression"));
    }

    #[test]
    fn and_binds_tighter_than_or_unless_parentheses_say_otherwise() {
        assert!(mit_and_isc("MIT OR GPL-2.0 AND GPL-3.0").expect("an expression"));
        assert!(!mit_and_isc("(MIT OR GPL-2.0) AND GPL-3.0").expect("an expression"));
        assert!(mit_and_isc("(GPL-2.0 OR MIT) AND ISC").expect("an expression"));
    }

    #[test]
    fn an_exception_makes_another_licence() {
        assert!(mit_and_isc("Apache-2.0 WITH LLVM-exception").expect("an expression"));
        assert!(!mit_and_isc("Apache-2.0").expect("an expression"));
        assert!(!mit_and_isc("MIT WITH LLVM-exception").expect("an expression"));
    }

    #[test]
    fn nonsense_is_an_error_and_not_a_permission() {
        for nonsense in ["", "MIT OR", "MIT ISC", "(MIT", "MIT)", "AND MIT"] {
            assert!(mit_and_isc(nonsense).is_err(), "{nonsense}");
        }
    }
}
