import Testing

/// Each check of pages, proven able to fail: a planted untruth is found, its true neighbour is not.
@Suite struct DocumentCheckTests {
    static let program = Program(
        sources: [
            """
            struct Root: ParsableCommand {
                static let configuration = CommandConfiguration(commandName: "romulus", subcommands: [Show.self, Keys.self])
            }
            struct Show: ParsableCommand {
                static let configuration = CommandConfiguration(commandName: "show")
                // @Flag var ghost = false
                @Flag(name: .shortAndLong, help: "Go on {") var goOn = false
                @Option(help: "Of the link }")
                var linkCap: Int?
                @OptionGroup var shared: Shared
                @OptionGroup var own: Own
            }
            struct Keys: ParsableCommand {
                static let configuration = CommandConfiguration(commandName: "keys", subcommands: [Make.self])
            }
            struct Make: ParsableCommand {
                static let configuration = CommandConfiguration(commandName: "make")
            }
            struct Shared: ParsableArguments {
                @Option(name: [.customShort("o"), .customLong("output")]) private var form = "table"
            }
            struct Own: ParsableArguments { @Option var depth: Int? }
            """
        ], root: "Root", shared: ["Shared"])

    let checks = DocumentChecks(
        vocabulary: Vocabulary(
            programs: [
                "romulus": program,
                "romulusd": Program(sources: ["struct D { @Flag var checkConfig = false }"], root: "D"),
            ],
            keys: ["defaults", "epoch_ms", "vms", "qmp", "journal", "disks"],
            metrics: ["romulus_epoch", "romulus_pause_seconds"], words: ["peer_lost", "silenceMs"],
            makeTargets: ["test"], exists: { ["docs", "docs/A.md", "docs/B.md", "Sources/Real"].contains($0) }))

    func page(_ text: String) -> Document { Document(path: "docs/A.md", text: text) }

    @Test func aProgramIsRead() {
        #expect(Self.program.verbs[["show"]] == ["--go-on", "-g", "--link-cap", "--depth"])
        #expect(Self.program.verbs[["keys", "make"]] == [])
        #expect(Self.program.verbs.count == 2)
        #expect(Self.program.common == ["--output", "-o", "--help", "-h", "--version"])
    }

    @Test func pagesAreRead() {
        let page = page(
            """
            # A page: of `things`
            Prose with `a span` and [a link](B.md#top).

                code `no span`

                more
            - a list
                with more of its `item`

                  and code

            ```sh
            fenced
            ```
            ## Below
            end
            # Next
            """)
        #expect(page.spans.map(\.text) == ["things", "a span", "item"])
        #expect(page.blocks.map { $0.map(\.number) } == [[4, 6], [10], [13]])
        #expect(page.links.map(\.target) == ["B.md#top"])
        #expect(page.anchors == ["a-page-of-things", "below", "next"])
        #expect(page.section { $0 == "A page: of `things`" }.count == 15)
        #expect(page.section { $0 == "Below" }.map(\.text) == ["end"])
    }

    @Test(arguments: [
        "Say `romulus hide web`.", "Say `romulus show web --depths 1`.", "\n    sudo romulus --outputs show\n",
        "`romulus keys make -g`",
        "\n    romulus show web \\\n        --wait\n", "\n    romulus show [--depth N]\n        [--wait]\n",
        "`romulusd --check`",
        "\n    x && romulus show --wait | less\n",
    ])
    func aWrongCommandIsFound(text: String) {
        #expect(checks.commands(page(text)).count == 1)
    }

    @Test(arguments: [
        "Say `romulus show web --depth 1 -g`.", "`romulus`, `romulus VERB --help`",
        "\n    romulus -o json show   # --wait it says\n",
        "`romulus keys make --output=json`", "`romulusd --check-config`", "\n    romulus show | other --wait\n",
        "`romulus-bench show`",
        "`romulus help show`", "no romulus hide --in prose",
    ])
    func aRightCommandPasses(text: String) {
        #expect(checks.commands(page(text)) == [])
    }

    @Test func aLoneOptionIsLookedUp() {
        #expect(checks.loneOptions(page("with `--wait`")).count == 1)
        #expect(checks.loneOptions(page("with `--depth N`, `--check-config`, `--option`")) == [])
    }

    @Test(arguments: [
        "`defaults.epoch`", "`vms.NAME.qpm`", "`epochs_ms: 20`", "\n    defaults:\n      epoch: 20\n",
        "\n    vms:\n      web:\n        q: /x\n",
    ])
    func aWrongKeyIsFound(text: String) {
        #expect(checks.keys(page(text)).count == 1)
    }

    @Test(arguments: [
        "`defaults.epoch_ms`", "`vms.web.qmp`", "`epoch_ms: 20`", "`other.epoch`", "`journal.sqlite`",
        "\n    other:\n      epoch: 20\n",
        "\n    vms:\n      web:\n        qmp: /x\n        disks:\n          drive0: /y\n",
    ])
    func aRightKeyPasses(text: String) {
        #expect(checks.keys(page(text)) == [])
    }

    @Test func namesOfMetricsAreLookedUp() {
        #expect(checks.metrics(page("`romulus_epochs` and `romulus_pauses_*` and romulus_epoch_buckets")).count == 3)
        #expect(
            checks.metrics(page("`romulus_epoch`, rate(romulus_pause_seconds_bucket[5m]), `romulus_pause_*`")) == [])
    }

    @Test func wordsAreLookedUp() {
        #expect(checks.words(page("`peer_gone`, `silence_s`")).count == 2)
        #expect(checks.words(page("`peer_lost`, `silence_ms`, `tcp_rmem`, `a peer_gone`, `peer`")) == [])
    }

    @Test func pathsAreLookedUp() {
        #expect(checks.files(page("`Sources/Ghost`, and (docs/C.md).")).count == 2)
        #expect(checks.files(page("`Sources/Real`, docs/A.md. And /usr/Sources/Ghost")) == [])
    }

    @Test func targetsOfTheMakefileAreLookedUp() {
        #expect(checks.makeTargets(page("`make tests`\n\n    sudo make all\n")).count == 2)
        #expect(checks.makeTargets(page("`make test`, `make` and make sure")) == [])
    }

    @Test func linksAreFollowed() {
        let others = ["docs/A.md": page("# Here"), "docs/B.md": page("# There it is")]
        func findings(_ text: String) -> Int { checks.links(page(text), others: others).count }
        #expect(findings("[a](C.md)") == 1)
        #expect(findings("[a](B.md#here)") == 1)
        #expect(findings("[a](#there)") == 1)
        #expect(findings("![a](../B.md) <img src=\"x.svg\">") == 2)
        #expect(
            findings("[a](B.md) [a](B.md#there-it-is) [a](#here) [a](../docs/A.md) [a](https://example.org/x)") == 0)
    }

    @Test func whatIsUndocumentedIsFound() {
        let commands = """
            ## Options of every verb
            `--output`, `-o`, `--help`, `-h`, `--version`
            ## show VM
            `--go-on`, `-g`, `--link-cap N`, `--depth N`
            ## keys list, keys make NAME
            Makes them.
            """
        let metrics = "`romulus_epoch` `romulus_pause_seconds`"
        let keys = ["defaults: epoch_ms: vms: qmp:", "`journal` and `vms.web.disks`"]
        func missing(_ commands: String, _ metrics: String, _ keys: [String]) -> [String] {
            checks.undocumented(commands: page(commands), metrics: page(metrics), all: keys)
        }
        #expect(missing(commands, metrics, keys) == [])
        #expect(missing(commands.replacing("`--depth N`", with: ""), metrics, keys).count == 1)
        #expect(missing(commands.replacing("`-o`", with: ""), metrics, keys).count == 1)
        #expect(missing(commands.replacing("keys make", with: "keys show"), metrics, keys).count == 1)
        #expect(missing(commands, "`romulus_epoch`", keys).count == 1)
        #expect(missing(commands, metrics, ["defaults: epoch_ms: vms: qmp:", "`vms.web.disks`"]).count == 1)
    }

    @Test func thePageOfTheSourcesIsLookedAt() {
        func findings(_ text: String) -> [String] {
            CodePage.findings(
                page(text), targets: ["Real", "Tool"],
                exists: {
                    ["Sources", "Sources/Real", "Sources/Real/Part", "Sources/Real/A.swift", "Tests/Other"].contains($0)
                }
            ).map(\.message)
        }
        #expect(
            findings("| a | `Real` | `Part`, `A.swift` |\n`Tool`, `Sources`, `Real/A.swift`, `make x`, `Other`") == [])
        #expect(findings("`Real`") == ["the target Tool is not told of"])
        #expect(findings("`Real`, `Tool`, `Part`") == ["“Part” is neither a target nor a file or folder"])
        #expect(findings("| `Real` | `B.swift` |\n`Tool`").count == 1)
    }
}
