fn main() -> std::process::ExitCode {
    std::process::ExitCode::from(cachalot::cli::main(std::env::args_os()) as u8)
}
