//! Prints the description of the API: `cargo run -p gantry-api --example openapi > api-spec/openapi.yaml`.

fn main() {
    print!("{}", gantry_api::openapi::yaml());
}
