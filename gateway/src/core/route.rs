//! Which route a request takes: the one with the longest matching path.

use std::collections::HashMap;

use http::Method;

use crate::config::Route;

/// The routes of a gateway, made ready to be asked.
///
/// A path matches in whole segments: `/orders` matches `/orders` and `/orders/7`, not `/orders-old`, and a segment
/// `{id}` matches any. The longest path decides alone: if it does not take the method, no shorter one is asked, so that
/// no rule is passed by from below. Of two segments that match, the plain one decides, as if the other were not there.
#[derive(Debug)]
pub struct RouteTable {
    routes: Vec<Route>,
    root: Node,
}

/// A path, and what goes on from there.
#[derive(Debug, Default)]
struct Node {
    routes: Vec<usize>,
    plain: HashMap<String, Node>,
    any: Option<Box<Node>>,
}

/// No route takes the request.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum NoRoute {
    /// None has such a path.
    Path,
    /// Those with the path take other methods.
    Method {
        /// The methods they take, as an `Allow` header has them.
        allow: String,
    },
}

impl RouteTable {
    /// A table of `routes`.
    pub fn new(routes: Vec<Route>) -> Self {
        let mut root = Node::default();
        for (index, route) in routes.iter().enumerate() {
            let node = segments(&route.path).fold(&mut root, Node::grow);
            node.routes.push(index);
        }
        Self { routes, root }
    }

    /// All routes, in the order they were given.
    pub fn routes(&self) -> &[Route] {
        &self.routes
    }

    /// The place in [`routes`](Self::routes) of the route that a request with this method and
    /// [normal path](super::normal_path) takes.
    pub fn pick(&self, method: &Method, path: &str) -> Result<usize, NoRoute> {
        let (mut node, mut found) = (&self.root, Vec::new());
        let mut rest = segments(path);
        loop {
            let next = rest.next();
            let here = node.routes.iter().copied();
            let here: Vec<usize> = here.filter(|at| next.is_none() || !self.routes[*at].exact).collect();
            if !here.is_empty() {
                found = here;
            }
            match next.and_then(|segment| node.next(segment)) {
                Some(deeper) => node = deeper,
                None => break,
            }
        }
        if found.is_empty() { Err(NoRoute::Path) } else { self.pick_method(method, found.into_iter()) }
    }

    /// Of routes that all match the path: first those that name the method, and of these first the exact one.
    fn pick_method(&self, method: &Method, matching: impl Iterator<Item = usize>) -> Result<usize, NoRoute> {
        let mut allow = Vec::new();
        let mut best = None;
        for at in matching {
            let route = &self.routes[at];
            let names = route.methods.iter().any(|name| takes(name, method));
            if names || route.methods.is_empty() {
                let rank = (names, route.exact);
                if best.is_none_or(|(found, _)| rank > found) {
                    best = Some((rank, at));
                }
            }
            allow.extend(route.methods.iter().cloned());
        }
        allow.sort_unstable();
        allow.dedup();
        best.map(|(_, at)| at).ok_or_else(|| NoRoute::Method { allow: allow.join(", ") })
    }
}

impl Node {
    /// The node behind a segment of a route's path, made if it is not there.
    fn grow<'a>(&'a mut self, segment: &str) -> &'a mut Self {
        if segment.starts_with('{') && segment.ends_with('}') {
            return self.any.get_or_insert_default();
        }
        self.plain.entry(segment.to_owned()).or_default()
    }

    /// The node behind a segment of a request's path.
    fn next(&self, segment: &str) -> Option<&Self> {
        self.plain.get(segment).or(self.any.as_deref())
    }
}

/// The segments of a normal path; a slash at the end is none.
fn segments(path: &str) -> impl Iterator<Item = &str> {
    path.split('/').filter(|segment| !segment.is_empty())
}

fn takes(name: &str, method: &Method) -> bool {
    name == method.as_str() || (name == "GET" && *method == Method::HEAD)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::core::Access;

    fn route(path: &str, methods: &[&str], exact: bool) -> Route {
        let methods = methods.iter().map(|method| (*method).to_owned()).collect();
        Route { methods, exact, ..Route::new(path, Access::Public, "pool") }
    }

    fn table() -> RouteTable {
        RouteTable::new(vec![
            route("/users", &["POST"], true),
            route("/users/me", &["GET"], false),
            route("/products", &["GET"], false),
            route("/products", &[], false),
            route("/orders", &[], false),
            route("/orders/old", &["GET"], false),
        ])
    }

    #[test]
    fn the_longest_path_in_whole_segments_decides() {
        let table = table();
        for (method, path, at) in [
            (Method::POST, "/users", Ok(0)),
            (Method::POST, "/users/", Ok(0)),
            (Method::POST, "/users/7", Err(NoRoute::Path)),
            (Method::GET, "/users/me", Ok(1)),
            (Method::HEAD, "/users/me/x", Ok(1)),
            (Method::GET, "/products/7", Ok(2)),
            (Method::PATCH, "/products/7", Ok(3)),
            (Method::GET, "/orders", Ok(4)),
            (Method::DELETE, "/orders/7/items", Ok(4)),
            (Method::GET, "/orders-old", Err(NoRoute::Path)),
            (Method::GET, "/", Err(NoRoute::Path)),
            (Method::GET, "/orders/old/7", Ok(5)),
            (Method::DELETE, "/orders/old/7", Err(NoRoute::Method { allow: "GET".into() })),
            (Method::GET, "/users", Err(NoRoute::Method { allow: "POST".into() })),
        ] {
            assert_eq!(table.pick(&method, path), at, "{method} {path}");
        }
    }

    #[test]
    fn a_segment_in_braces_is_any_one_segment() {
        let table = RouteTable::new(vec![
            route("/products", &["GET", "POST"], true),
            route("/products/{id}", &["GET", "PATCH"], true),
            route("/products/{id}/stock", &["POST"], true),
            route("/products/new", &["POST"], true),
        ]);
        let no = |allow: &str| Err(NoRoute::Method { allow: allow.into() });
        for (method, path, at) in [
            (Method::GET, "/products", Ok(0)),
            (Method::PUT, "/products", no("GET, POST")),
            (Method::HEAD, "/products/7", Ok(1)),
            (Method::POST, "/products/7", no("GET, PATCH")),
            (Method::POST, "/products/7/stock", Ok(2)),
            (Method::GET, "/products/7/stock", no("POST")),
            (Method::GET, "/products/7/price", Err(NoRoute::Path)),
            (Method::POST, "/products/new", Ok(3)),
            (Method::GET, "/products/new", no("POST")),
        ] {
            assert_eq!(table.pick(&method, path), at, "{method} {path}");
        }
    }

    #[test]
    fn the_root_takes_what_nothing_else_takes() {
        let table = RouteTable::new(vec![route("/", &[], false), route("/admin", &["GET"], false)]);
        assert_eq!(table.pick(&Method::GET, "/anything/else"), Ok(0));
        assert_eq!(table.pick(&Method::GET, "/"), Ok(0));
        assert_eq!(table.pick(&Method::POST, "/admin/x"), Err(NoRoute::Method { allow: "GET".into() }));
    }
}
