//! Compiles the services' protos in Rust alone: nobody has to install `protoc`.

fn main() -> Result<(), Box<dyn std::error::Error>> {
    let names = ["keys", "users", "products", "inventory", "orders", "payments", "shipping", "breakers"];
    let files = names.map(|name| format!("proto/{name}.proto"));
    for file in &files {
        println!("cargo:rerun-if-changed={file}");
    }
    println!("cargo:rerun-if-changed=proto/types.proto");
    let descriptors = protox::compile(&files, ["proto"])?;
    tonic_prost_build::configure().compile_fds(descriptors)?;
    Ok(())
}
