// swift-tools-version: 6.3
import PackageDescription

// The targets that read what a peer sends, under libFuzzer and the address sanitizer; see `run`. The sources are those
// of the main package, by symbolic links that `run` makes, so that neither it nor its users ever see the sanitizer's flags.
let instrumented: [SwiftSetting] = [
    .swiftLanguageMode(.v6),
    .enableUpcomingFeature("ExistentialAny"),
    .enableExperimentalFeature("Lifetimes"),
    .unsafeFlags(["-sanitize=fuzzer,address", "-parse-as-library", "-O"]),
]

func fuzzer(_ name: String, _ dependencies: [Target.Dependency]) -> Target {
    .executableTarget(
        name: name, dependencies: dependencies + ["CFuzzer"], swiftSettings: instrumented,
        linkerSettings: [.unsafeFlags(["-sanitize=fuzzer,address", "-use-ld=lld"])])
}

let package = Package(
    name: "fuzz",
    targets: [
        .target(name: "CFuzzer"),
        .target(name: "CKernels", cSettings: [.unsafeFlags(["-O2", "-fsanitize=fuzzer-no-link,address"])]),
        .systemLibrary(name: "CZstd", pkgConfig: "libzstd", providers: [.apt(["libzstd-dev"])]),
        .systemLibrary(name: "CLZ4", pkgConfig: "liblz4", providers: [.apt(["liblz4-dev"])]),
        .target(name: "Model", swiftSettings: instrumented),
        .target(name: "Wire", dependencies: ["Model", "CKernels"], swiftSettings: instrumented),
        .target(name: "Codec", dependencies: ["Model", "CKernels", "CZstd", "CLZ4"], swiftSettings: instrumented),
        fuzzer("FuzzFrames", ["Wire", "Model"]),
        fuzzer("FuzzPages", ["Codec", "Model"]),
    ]
)
