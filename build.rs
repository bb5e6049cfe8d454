//! Compiles proto/ to Rust clients, with no protoc on the machine.

use std::error::Error;

const FILES: [&str; 5] =
    ["stateservice.proto", "walletunlocker.proto", "lightning.proto", "signer.proto", "walletkit.proto"];

fn main() -> Result<(), Box<dyn Error>> {
    println!("cargo:rerun-if-changed=proto");
    let descriptors = protox::compile(FILES, ["proto"])?;
    tonic_prost_build::configure()
        .build_server(false)
        .build_transport(false)
        // Fields that hold secrets must not be printable by accident.
        .skip_debug([
            "lnrpc.GenSeedResponse",
            "lnrpc.InitWalletRequest",
            "lnrpc.InitWalletResponse",
            "lnrpc.UnlockWalletRequest",
            "lnrpc.ChangePasswordRequest",
            "lnrpc.ChangePasswordResponse",
            "lnrpc.BakeMacaroonResponse",
        ])
        .compile_fds(descriptors)?;
    Ok(())
}
