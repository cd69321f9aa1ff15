import FoundationEssentials
import Model

/// What etcd's JSON gateway takes and gives: names as in its protobuf files (rpc.proto, kv.proto) in snake case, bytes as
/// base64, 64-bit numbers as texts; members that are zero or false are left out of replies.
enum Etcd {
    static var encoder: JSONEncoder {
        let encoder = JSONEncoder()
        encoder.keyEncodingStrategy = .convertToSnakeCase
        return encoder
    }

    static var decoder: JSONDecoder {
        let decoder = JSONDecoder()
        decoder.keyDecodingStrategy = .convertFromSnakeCase
        return decoder
    }

    struct RangeRequest: Encodable {
        var key: Data
    }

    struct PutRequest: Encodable {
        var key: Data
        var value: Data
    }

    /// Puts `value` when the key was last modified at `revision` (0: it does not exist), else reads it.
    struct TxnRequest: Encodable {
        struct Compare: Encodable {
            var key: Data
            var target = "MOD"
            var result = "EQUAL"
            var modRevision: String
        }
        struct Operation: Encodable {
            var requestPut: PutRequest?
            var requestRange: RangeRequest?
        }

        var compare: [Compare]
        var success: [Operation]
        var failure: [Operation]

        init(key: Data, value: Data, ifModifiedAt revision: Int64) {
            compare = [Compare(key: key, modRevision: String(revision))]
            success = [Operation(requestPut: PutRequest(key: key, value: value))]
            failure = [Operation(requestRange: RangeRequest(key: key))]
        }
    }

    struct Header: Decodable {
        var clusterId: String
    }

    struct KeyValue: Decodable {
        var modRevision: String
        var value: Data
    }

    struct RangeResponse: Decodable {
        var header: Header
        var kvs: [KeyValue]?
    }

    struct TxnResponse: Decodable {
        struct Range: Decodable {
            var kvs: [KeyValue]?
        }
        struct Operation: Decodable {
            var responseRange: Range?
        }

        var header: Header
        var succeeded: Bool?
        var responses: [Operation]?
    }

    /// Of every reply that is not a success.
    struct Failure: Decodable {
        var error: String?
        var message: String?
    }
}
