// swift-tools-version: 6.3
import PackageDescription

/// Read top to bottom as: ground, core, drivers, path, control, tools. A target may import only what stands above
/// it here; Tests/TidyTests checks that the sources keep to it.
let settings: [SwiftSetting] = [
    .swiftLanguageMode(.v6),
    .treatAllWarnings(as: .error),
    .enableUpcomingFeature("ExistentialAny"),
    .enableExperimentalFeature("Lifetimes"),
]
let cSettings: [CSetting] = [.unsafeFlags(["-O2", "-Wall", "-Wextra", "-Werror"])]

func library(_ name: String, _ dependencies: [Target.Dependency] = [], path: String? = nil) -> Target {
    .target(name: name, dependencies: dependencies, path: path, swiftSettings: settings)
}
func tests(_ name: String, _ dependencies: [Target.Dependency], exclude: [String] = []) -> Target {
    .testTarget(name: name, dependencies: dependencies, exclude: exclude, swiftSettings: settings)
}

let nio: [Target.Dependency] = [
    .product(name: "NIOCore", package: "swift-nio"),
    .product(name: "NIOPosix", package: "swift-nio"),
]
let http: Target.Dependency = .product(name: "AsyncHTTPClient", package: "async-http-client")
let http1: Target.Dependency = .product(name: "NIOHTTP1", package: "swift-nio")
let log: Target.Dependency = .product(name: "Logging", package: "swift-log")
let lifecycle: Target.Dependency = .product(name: "ServiceLifecycle", package: "swift-service-lifecycle")
let arguments: Target.Dependency = .product(name: "ArgumentParser", package: "swift-argument-parser")

let package = Package(
    name: "romulus",
    products: [
        .executable(name: "romulus", targets: ["romulus"]),
        .executable(name: "romulusd", targets: ["romulusd"]),
    ],
    dependencies: [
        .package(url: "https://github.com/apple/swift-argument-parser", from: "1.8.2"),
        .package(url: "https://github.com/apple/swift-log", from: "1.16.2"),
        .package(url: "https://github.com/apple/swift-nio", from: "2.101.2"),
        .package(url: "https://github.com/apple/swift-nio-ssl", from: "2.37.6"),
        .package(url: "https://github.com/apple/swift-crypto", from: "4.5.2"),
        .package(url: "https://github.com/apple/swift-certificates", from: "1.21.1"),
        .package(url: "https://github.com/apple/swift-asn1", from: "1.7.4"),
        .package(url: "https://github.com/hummingbird-project/hummingbird", from: "2.28.1", traits: []),
        .package(url: "https://github.com/swift-server/swift-service-lifecycle", from: "2.13.0"),
        .package(url: "https://github.com/swift-server/async-http-client", from: "1.37.0"),
        .package(url: "https://github.com/jpsim/Yams", from: "6.2.2"),
        .package(url: "https://github.com/groue/GRDB.swift", from: "7.10.0"),
    ],
    targets: [
        // ground
        .target(name: "CLinux"),
        .target(name: "CKernels", cSettings: cSettings),
        .systemLibrary(name: "CZstd", pkgConfig: "libzstd", providers: [.apt(["libzstd-dev"])]),
        .systemLibrary(name: "CLZ4", pkgConfig: "liblz4", providers: [.apt(["liblz4-dev"])]),
        .target(name: "CLibvirt", cSettings: cSettings),
        library("LinuxSystem", ["CLinux"]),

        // core
        library("Model"),
        library("Wire", ["Model", "CKernels"]),
        library("Codec", ["Model", "CKernels", "CZstd", "CLZ4"]),
        library("Protocol", ["Model"]),

        // ports
        library("Hypervisor", ["LinuxSystem", "Model", log]),

        // drivers
        library("TapDetour", ["LinuxSystem", "CLinux", "Model"]),
        library("QEMU", ["Hypervisor", "TapDetour", "LinuxSystem", "Model", log]),
        library("Libvirt", ["CLibvirt", "LinuxSystem"]),
        library("Storage", ["LinuxSystem", "CLinux", "Model", .product(name: "Crypto", package: "swift-crypto")]),
        library("GuestNetwork", ["LinuxSystem", "Model"]),
        library("KernelGate", ["LinuxSystem", "CLinux", "Model"]),
        library("Fencing", ["LinuxSystem", "CLinux", "Model"]),
        library("Journal", ["Model", .product(name: "GRDB", package: "GRDB.swift")]),
        library(
            "PKI",
            [
                "Model",
                .product(name: "X509", package: "swift-certificates"),
                .product(name: "Crypto", package: "swift-crypto"),
                .product(name: "SwiftASN1", package: "swift-asn1"),
            ]),
        library(
            "Transport",
            [
                "Wire", "PKI", "Model", .product(name: "NIOSSL", package: "swift-nio-ssl"),
                .product(name: "NIOTLS", package: "swift-nio"),
            ] + nio),
        library(
            "Registers",
            [
                "Transport", "PKI", "Wire", "Model", "LinuxSystem", http,
                .product(name: "NIOSSL", package: "swift-nio-ssl"),
            ] + nio),

        // path
        library("Telemetry", ["Model"]),
        library("Messages", ["Hypervisor", "Protocol", "Wire", "Model"] + nio),
        library(
            "Shipping",
            ["Transport", "Wire", "Model", "LinuxSystem", .product(name: "Crypto", package: "swift-crypto")] + nio),
        library("Carriers", ["Model"]),
        library(
            "Memory",
            [
                "Carriers", "Hypervisor", "Shipping", "Transport", "GuestNetwork", "Storage", "Codec", "Wire", "Model",
                "LinuxSystem", log,
                .product(name: "Crypto", package: "swift-crypto"),
            ]),
        library(
            "Disk",
            ["Carriers", "Hypervisor", "Shipping", "Transport", "Storage", "Wire", "Model", "LinuxSystem", log]),
        library("Output", ["Carriers", "Hypervisor", "GuestNetwork", "Model", "LinuxSystem", log]),
        library(
            "Standby",
            [
                "Hypervisor", "Messages", "Memory", "Output", "GuestNetwork", "Storage", "Codec", "Protocol", "Wire",
                "Model",
                "LinuxSystem", log, .product(name: "Crypto", package: "swift-crypto"),
            ] + nio),
        library("Leases", ["KernelGate", "Registers", "Protocol", "Model", "LinuxSystem", log]),
        library("Forecasting", ["Hypervisor", "Memory", "Shipping", "Protocol", "Model", "LinuxSystem", log]),
        library(
            "Pair",
            [
                "Carriers", "Hypervisor", "Standby", "Memory", "Disk", "Output", "Shipping", "Messages", "Registers",
                "Transport",
                "Fencing", "Leases", "KernelGate", "TapDetour",
                "GuestNetwork", "Storage", "Codec", "Protocol", "Wire", "Model", "LinuxSystem", log,
            ] + nio),

        // control
        library("RomulusAPI", ["Model", http1] + nio),
        library(
            "Agent",
            [
                "Hypervisor", "Pair", "Forecasting", "Standby", "Memory", "Disk", "Messages", "RomulusAPI", "Telemetry",
                "Registers", "Leases",
                "Journal", "Protocol", "Transport", "Wire", "PKI",
                "QEMU", "Libvirt", "TapDetour", "Storage", "GuestNetwork", "Fencing", "LinuxSystem", "Model",
                log,
                .product(name: "Hummingbird", package: "hummingbird"),
                lifecycle,
                .product(name: "Yams", package: "Yams"),
            ] + nio),

        // tools
        .executableTarget(
            name: "romulus",
            dependencies: ["RomulusAPI", "PKI", "Model", arguments],
            swiftSettings: settings),
        .executableTarget(
            name: "romulusd", dependencies: ["Agent", "Storage", "RomulusAPI", arguments, lifecycle],
            swiftSettings: settings),

        // tests
        // The guest's C sources are compiled when the guest's image is built, for the guest and not for this machine.
        .target(
            name: "TestBed", dependencies: ["CLinux"], path: "Tests/TestBed", exclude: ["Guest", "Host"],
            swiftSettings: settings),
        .executableTarget(
            name: "romulus-bed-client", dependencies: ["TestBed"], path: "Tests/BedClient", swiftSettings: settings),
        tests("TestBedTests", ["TestBed", "romulus-bed-client"]),
        tests("TidyTests", []),
        .target(name: "CAllocations", path: "Tests/CAllocations"),
        .target(name: "Literals", dependencies: ["Model"], path: "Tests/Literals", swiftSettings: settings),
        tests("LinuxSystemTests", ["LinuxSystem", "CLinux", "CAllocations", "TestBed"]),
        tests("ModelTests", ["Model"]),
        tests("WireTests", ["Wire", "Model", "CKernels"]),
        tests("CodecTests", ["Codec", "Model", "CKernels"]),
        tests("ProtocolTests", ["Protocol", "Model"]),
        .executableTarget(
            name: "romulus-sim", dependencies: ["Pair", "Standby", "Storage", "Messages", "Wire", "Protocol", "Model"],
            path: "Tests/Simulator",
            exclude: ["README.md", "Scenarios"], swiftSettings: settings),
        tests("HypervisorTests", ["Hypervisor"]),
        tests("QEMUTests", ["QEMU", "LinuxSystem", "Model", "TestBed"]),
        tests("LibvirtTests", ["Libvirt"]),
        tests("StorageTests", ["Storage", "CAllocations", "TestBed"]),
        tests("GuestNetworkTests", ["GuestNetwork", "LinuxSystem", "Model"]),
        .executableTarget(
            name: "romulus-gate-renewer", dependencies: ["KernelGate", "LinuxSystem", "Model"],
            path: "Tests/GateRenewer", swiftSettings: settings),
        tests(
            "KernelGateTests",
            [
                "KernelGate", "Leases", "Registers", "Protocol", "LinuxSystem", "Model", "TestBed", "Literals", log,
                "romulus-gate-renewer",
            ]),
        tests(
            "LeasesTests",
            ["Leases", "KernelGate", "Registers", "Protocol", "LinuxSystem", "Model", "TestBed", "Literals", log]),
        tests("TapDetourTests", ["TapDetour", "GuestNetwork", "LinuxSystem", "Model", "TestBed"]),
        tests("FencingTests", ["Fencing", "LinuxSystem", "Model", "TestBed"]),
        tests("PKITests", ["PKI", "Model", "TestBed"]),
        tests("TransportTests", ["Transport", "PKI", "Model", "TestBed", "Literals"]),
        tests(
            "RegistersTests",
            ["Registers", "Transport", "PKI", "Wire", "Model", "LinuxSystem", "TestBed", "Literals", http] + nio),
        .executableTarget(
            name: "romulus-journal-writer", dependencies: ["Journal", "Model"], path: "Tests/JournalWriter",
            swiftSettings: settings),
        tests("JournalTests", ["Journal", "Model", "TestBed", "romulus-journal-writer"]),
        tests("TelemetryTests", ["Telemetry", "Model", "TestBed", "Literals"]),
        .target(
            name: "Fakes",
            dependencies: [
                "Pair", "Standby", "Memory", "Disk", "Messages", "Shipping", "Registers", "Hypervisor", "Storage",
                "Transport", "PKI",
                "Protocol", "Codec", "Wire", "Model", "LinuxSystem", "CLinux", "Literals", log,
                .product(name: "Crypto", package: "swift-crypto"),
            ] + nio,
            path: "Tests/Fakes", swiftSettings: settings),
        tests("MessagesTests", ["Messages", "Wire"] + nio, exclude: ["Golden"]),
        tests("ShippingTests", ["Shipping", "Fakes", "Transport", "Wire", "Model", "LinuxSystem"] + nio),
        tests("CarriersTests", ["Carriers", "Model"]),
        tests(
            "MemoryTests",
            [
                "Memory", "Hypervisor", "Fakes", "Model", "Wire", "LinuxSystem", log,
                .product(name: "Crypto", package: "swift-crypto"),
            ]),
        tests(
            "DiskTests",
            [
                "Disk", "Fakes", "Carriers", "Hypervisor", "Shipping", "Transport", "Storage", "Wire", "Model",
                "LinuxSystem", log,
            ] + nio),
        tests(
            "StandbyTests",
            [
                "Standby", "Fakes", "Hypervisor", "Messages", "Memory", "GuestNetwork", "Storage", "Protocol", "Model",
                "Wire", "LinuxSystem", "Literals", log,
            ] + nio),
        tests(
            "PairTests",
            [
                "Pair", "Fakes", "Carriers", "Standby", "Disk", "Hypervisor", "Messages", "Shipping", "Leases",
                "Registers", "Protocol", "Transport", "PKI", "Model", "Wire", "LinuxSystem", "Storage", "Literals", log,
            ] + nio),
        tests("RomulusAPITests", ["RomulusAPI", "Model", "Literals"]),
        tests(
            "AgentTests",
            [
                "Agent", "LinuxSystem", "RomulusAPI", "Journal", "Telemetry", "Registers", "Fencing", "PKI", "Model",
                "TestBed", "Fakes", "Literals", "Pair", "Protocol", "Standby", "Memory", "Transport", "Wire",
                http,
                log,
                lifecycle,
            ] + nio, exclude: ["Golden"]),
        .executableTarget(
            name: "romulusd-planted",
            dependencies: ["Agent", "Pair", "Storage", lifecycle], path: "Tests/PlantedAgent", swiftSettings: settings),
        tests(
            "IntegrationTests",
            ["TestBed", "QEMU", "romulus", "romulusd", "romulusd-planted", "romulus-bed-client"]),
        .executableTarget(
            name: "romulus-demo", dependencies: ["TestBed"], path: "Tests/Demo", swiftSettings: settings),
        .executableTarget(
            name: "romulus-chaos", dependencies: ["TestBed"], path: "Tests/Chaos", swiftSettings: settings),
        .executableTarget(
            name: "romulus-bench",
            dependencies: [
                "TestBed", "RomulusAPI", "QEMU", "Transport", "PKI", "Protocol", "Codec", "CLZ4", "CZstd", "Wire",
                "Model", "LinuxSystem", "Literals",
            ] + nio,
            path: "Tests/Bench", exclude: ["Memory/memory-toy.c"], swiftSettings: settings),
    ]
)
