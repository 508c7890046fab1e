import Broker
import CLinux
import Configuration
import Durability
import Glibc
import Locks
import MQTT
package import Management
import Transport

/// What the server counts, for Prometheus. Names follow its conventions: base units, `_total` for what only grows.
extension BrokerServer {
    package func metrics() async -> Metrics {
        var metrics = Metrics()
        let total = await counters()
        mqtt(total, &metrics)
        limits(total, &metrics)
        tls(total, &metrics)
        if let store = rounds.withLock({ $0?.store }) { disk(await store.currentFigures(), total, &metrics) }
        if let front { http(await front.figures(), &metrics) }
        metrics.add(
            "passwords_checked_total", .counter, "Passwords checked or hashed", Double(passwords.counters.checked))
        metrics.add(
            "passwords_refused_total", .counter, "Passwords not looked at, for too many waited",
            Double(passwords.counters.refused))
        process(&metrics)
        return metrics
    }

    private func mqtt(_ total: Counters, _ metrics: inout Metrics) {
        let (sessions, connected, subscriptions, shared, retained, retainedBytes) = directory.withLock {
            (
                $0.sessionCount, $0.connectedSessionCount, $0.subscriptionCount, $0.sharedSubscriptionCount,
                $0.retainedCount, $0.retainedBytes
            )
        }
        metrics.add("mqtt_connections", .gauge, "Connections that speak MQTT", Double(total.connections))
        metrics.add("mqtt_connections_opened_total", .counter, "Connections accepted", Double(total.connectionsOpened))
        metrics.add("mqtt_clients_connected", .gauge, "Sessions that have a connection", Double(connected))
        metrics.add("mqtt_sessions", .gauge, "Sessions, of clients that are there or away", Double(sessions))
        metrics.add(
            "mqtt_sessions_expired_total", .counter, "Sessions nobody came back for", Double(total.clientsExpired))
        metrics.add("mqtt_subscriptions", .gauge, "Subscriptions of all sessions", Double(subscriptions))
        metrics.add("mqtt_shared_subscriptions", .gauge, "Shared subscriptions among them", Double(shared))
        metrics.add("mqtt_retained_messages", .gauge, "Retained messages", Double(retained))
        metrics.add("mqtt_retained_bytes", .gauge, "Bytes of their payloads", Double(retainedBytes))
        metrics.add("mqtt_held_messages", .gauge, "Messages held in memory for sessions", Double(total.heldMessages))
        metrics.add("mqtt_held_bytes", .gauge, "Bytes of their payloads", Double(total.heldBytes))
        for (direction, packets, bytes, messages, payload) in [
            (
                "received", total.packetsReceived, total.bytesReceived, total.publishesReceived,
                total.publishBytesReceived
            ),
            ("sent", total.packetsSent, total.bytesSent, total.publishesSent, total.publishBytesSent),
        ] {
            metrics.add("mqtt_packets_\(direction)_total", .counter, "Control packets \(direction)", Double(packets))
            metrics.add("mqtt_bytes_\(direction)_total", .counter, "Bytes of packets \(direction)", Double(bytes))
            metrics.add("mqtt_publish_\(direction)_total", .counter, "PUBLISH packets \(direction)", Double(messages))
            metrics.add("mqtt_publish_\(direction)_bytes_total", .counter, "Bytes of their payloads", Double(payload))
        }
        metrics.add(
            "mqtt_publish_dropped_total", .counter, "Messages that a limit kept from a session",
            Double(total.publishesDropped))
        metrics.add(
            "mqtt_publish_denied_total", .counter, "Messages without the right to publish them",
            Double(total.publishesDenied))
        metrics.add(
            "mqtt_publish_withheld_total", .counter, "Queued messages whose session lost the right to them",
            Double(total.publishesWithheld))
        metrics.add(
            "mqtt_sign_ins_refused_total", .counter, "CONNECT packets refused for who sent them",
            Double(total.signInsRefused))
        metrics.add(
            "mqtt_subscriptions_denied_total", .counter, "Filters answered with 0x80", Double(total.subscriptionsDenied)
        )
    }

    private func limits(_ total: Counters, _ metrics: inout Metrics) {
        let reached: [(String, UInt64)] = [
            ("connections", total.connectionsRefused), ("clients", total.sessionsRefused),
            ("max_keepalive", total.keepAlivesRefused), ("mailbox", total.publishersHeld),
            ("publish_rate", total.publishersThrottled), ("takeovers", total.takeoversRefused),
            ("memory_connections_refused", total.memoryConnectionsRefused),
            ("memory_messages_dropped", total.memoryMessagesDropped),
            ("memory_connections_closed", total.memoryConnectionsClosed),
            ("memory_messages_not_stored", total.memoryMessagesNotStored),
        ]
        metrics.add(
            "limit_reached_total", .counter, "How often something was refused for a limit",
            reached.map { (["limit": $0.0], Double($0.1)) })
    }

    private func tls(_ total: Counters, _ metrics: inout Metrics) {
        metrics.add("tls_handshakes_total", .counter, "TLS handshakes that were finished", Double(total.handshakes))
        metrics.add(
            "tls_handshakes_resumed_total", .counter, "Resumed ones among them", Double(total.handshakesResumed))
        metrics.add(
            "tls_handshakes_failed_total", .counter, "TLS handshakes that failed", Double(total.handshakesFailed))
    }

    private func disk(_ figures: BrokerStore.Figures, _ total: Counters, _ metrics: inout Metrics) {
        metrics.add("store_commits_total", .counter, "Commits of broker.db", Double(figures.commits))
        metrics.add("store_written_bytes_total", .counter, "Bytes written to broker.db", Double(figures.bytesWritten))
        metrics.add(
            "store_failing", .gauge, "1 while the disk does not take what has to be on it", figures.isFailing ? 1 : 0)
        metrics.add(
            "store_queued_messages", .gauge, "Queued messages that lie on the disk only", Double(total.spilledMessages))
    }

    private func http(_ figures: HTTPFigures, _ metrics: inout Metrics) {
        metrics.add("http_connections", .gauge, "Connections that speak HTTP", Double(figures.connections))
        metrics.add(
            "http_connections_opened_total", .counter, "Connections accepted", Double(figures.connectionsOpened))
        metrics.add("http_requests_total", .counter, "Requests", Double(figures.requests))
        metrics.add("http_requests_malformed_total", .counter, "What was no request", Double(figures.malformed))
        metrics.add(
            "http_responses_total", .counter, "Answers by the first digit of their status",
            figures.responses.enumerated().map { (["code": "\($0.offset + 1)xx"], Double($0.element)) })
        metrics.add(
            "http_websockets_total", .counter, "Connections that became a WebSocket", Double(figures.webSockets))
        metrics.add("http_received_bytes_total", .counter, "Bytes received", Double(figures.bytesReceived))
        metrics.add("http_sent_bytes_total", .counter, "Bytes sent", Double(figures.bytesSent))
    }

    /// By the names that every Prometheus client library uses.
    private func process(_ metrics: inout Metrics) {
        metrics.add("build_info", .gauge, "1, with the version", [(["version": martletVersion], 1)])
        metrics.add("heap_used_bytes", .gauge, "Bytes of the heap that are in use", Double(malloc_used_bytes()))
        var usage = rusage()
        guard unsafe getrusage(__rusage_who_t(RUSAGE_SELF.rawValue), &usage) == 0 else { return }
        func seconds(_ time: timeval) -> Double { Double(time.tv_sec) + Double(time.tv_usec) / 1_000_000 }
        metrics.addPlain(
            "process_cpu_seconds_total", .counter, "User and system CPU time",
            seconds(usage.ru_utime) + seconds(usage.ru_stime))
        metrics.addPlain("process_start_time_seconds", .gauge, "When it started, since 1970", startTime)
    }
}
