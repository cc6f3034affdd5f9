//! What the program says when it is ready: to programs on stdout, to people on stderr.

use super::addresses::Addresses;
use crate::config::{Config, Role};

/// Where the first administrator's made-up password is, in the data folder.
pub const PASSWORD_FILE: &str = "admin-password";

/// Says where the shop is, and how to try it.
pub fn tell(config: &Config, addresses: &Addresses) {
    let shown: &[Role] = match &config.role {
        None if config.peers.is_empty() => &[Role::Gateway, Role::Console],
        // The roles that are elsewhere have to reach the others.
        None => &Role::ALL,
        Some(role) => std::slice::from_ref(role),
    };
    for role in shown {
        if let Some(address) = addresses.local(*role) {
            println!("{} http://{address}", role.name());
        }
    }
    println!("ready");
    if config.role.is_none() {
        hint(config, &addresses.url(Role::Gateway));
    }
}

fn hint(config: &Config, gateway: &str) {
    let file = config.data.join(PASSWORD_FILE);
    eprintln!();
    eprintln!("Try it:");
    eprintln!("  curl {gateway}/products");
    eprintln!(
        "  curl {gateway}/users -H 'content-type: application/json' \
         -d '{{\"email\":\"ada@example.org\",\"name\":\"Ada\",\"password\":\"correct horse\"}}'"
    );
    eprintln!(
        "  curl {gateway}/sessions -H 'content-type: application/json' \
         -d '{{\"email\":\"ada@example.org\",\"password\":\"correct horse\"}}'"
    );
    // What is only in memory was made now; elsewhere the first start decided, and wrote the file unless it was given one.
    let given = config.admin_password.is_some() && config.store.starts_with("memory:");
    if given || !file.exists() {
        eprintln!(
            "The administrator is admin@shop.local; the password is the one in SHOP_ADMIN_PASSWORD on first start."
        );
    } else {
        eprintln!("The administrator is admin@shop.local; the password is in {}", file.display());
    }
    eprintln!();
}
