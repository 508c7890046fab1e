#include "ConformanceCases.h"

// The suite travels in the binary: one file to copy.
#pragma clang diagnostic ignored "-Wc23-extensions"
static const unsigned char file_statements_txt[] = {
#embed "../../conformance/statements.txt"
};
static const unsigned char file_corpus_txt[] = {
#embed "../../conformance/corpus.txt"
};
static const unsigned char file_1_5_data_representations_cases[] = {
#embed "../../conformance/1.5-data-representations.cases"
};
static const unsigned char file_2_2_fixed_header_cases[] = {
#embed "../../conformance/2.2-fixed-header.cases"
};
static const unsigned char file_2_3_variable_header_cases[] = {
#embed "../../conformance/2.3-variable-header.cases"
};
static const unsigned char file_3_1_connect_cases[] = {
#embed "../../conformance/3.1-connect.cases"
};
static const unsigned char file_3_2_connack_cases[] = {
#embed "../../conformance/3.2-connack.cases"
};
static const unsigned char file_3_3_publish_cases[] = {
#embed "../../conformance/3.3-publish.cases"
};
static const unsigned char file_3_4_3_7_acknowledgements_cases[] = {
#embed "../../conformance/3.4-3.7-acknowledgements.cases"
};
static const unsigned char file_3_8_subscribe_cases[] = {
#embed "../../conformance/3.8-subscribe.cases"
};
static const unsigned char file_3_9_suback_cases[] = {
#embed "../../conformance/3.9-suback.cases"
};
static const unsigned char file_3_10_unsubscribe_cases[] = {
#embed "../../conformance/3.10-unsubscribe.cases"
};
static const unsigned char file_3_12_ping_cases[] = {
#embed "../../conformance/3.12-ping.cases"
};
static const unsigned char file_3_14_disconnect_cases[] = {
#embed "../../conformance/3.14-disconnect.cases"
};
static const unsigned char file_4_1_storing_state_cases[] = {
#embed "../../conformance/4.1-storing-state.cases"
};
static const unsigned char file_4_3_quality_of_service_cases[] = {
#embed "../../conformance/4.3-quality-of-service.cases"
};
static const unsigned char file_4_4_delivery_retry_cases[] = {
#embed "../../conformance/4.4-delivery-retry.cases"
};
static const unsigned char file_4_5_message_receipt_cases[] = {
#embed "../../conformance/4.5-message-receipt.cases"
};
static const unsigned char file_4_6_message_ordering_cases[] = {
#embed "../../conformance/4.6-message-ordering.cases"
};
static const unsigned char file_4_7_topics_cases[] = {
#embed "../../conformance/4.7-topics.cases"
};
static const unsigned char file_4_8_handling_errors_cases[] = {
#embed "../../conformance/4.8-handling-errors.cases"
};
static const unsigned char file_6_websocket_cases[] = {
#embed "../../conformance/6-websocket.cases"
};
static const unsigned char file_7_conformance_cases[] = {
#embed "../../conformance/7-conformance.cases"
};
static const unsigned char file_annex_cases[] = {
#embed "../../conformance/annex.cases"
};
static const unsigned char file_choices_cases[] = {
#embed "../../conformance/choices.cases"
};
static const unsigned char file_beyond_cases[] = {
#embed "../../conformance/beyond.cases"
};

#define EMBEDDED(name, symbol) {name, symbol, sizeof symbol}
static const struct conformance_file files[] = {
    EMBEDDED("statements.txt", file_statements_txt),
    EMBEDDED("corpus.txt", file_corpus_txt),
    EMBEDDED("1.5-data-representations.cases", file_1_5_data_representations_cases),
    EMBEDDED("2.2-fixed-header.cases", file_2_2_fixed_header_cases),
    EMBEDDED("2.3-variable-header.cases", file_2_3_variable_header_cases),
    EMBEDDED("3.1-connect.cases", file_3_1_connect_cases),
    EMBEDDED("3.2-connack.cases", file_3_2_connack_cases),
    EMBEDDED("3.3-publish.cases", file_3_3_publish_cases),
    EMBEDDED("3.4-3.7-acknowledgements.cases", file_3_4_3_7_acknowledgements_cases),
    EMBEDDED("3.8-subscribe.cases", file_3_8_subscribe_cases),
    EMBEDDED("3.9-suback.cases", file_3_9_suback_cases),
    EMBEDDED("3.10-unsubscribe.cases", file_3_10_unsubscribe_cases),
    EMBEDDED("3.12-ping.cases", file_3_12_ping_cases),
    EMBEDDED("3.14-disconnect.cases", file_3_14_disconnect_cases),
    EMBEDDED("4.1-storing-state.cases", file_4_1_storing_state_cases),
    EMBEDDED("4.3-quality-of-service.cases", file_4_3_quality_of_service_cases),
    EMBEDDED("4.4-delivery-retry.cases", file_4_4_delivery_retry_cases),
    EMBEDDED("4.5-message-receipt.cases", file_4_5_message_receipt_cases),
    EMBEDDED("4.6-message-ordering.cases", file_4_6_message_ordering_cases),
    EMBEDDED("4.7-topics.cases", file_4_7_topics_cases),
    EMBEDDED("4.8-handling-errors.cases", file_4_8_handling_errors_cases),
    EMBEDDED("6-websocket.cases", file_6_websocket_cases),
    EMBEDDED("7-conformance.cases", file_7_conformance_cases),
    EMBEDDED("annex.cases", file_annex_cases),
    EMBEDDED("choices.cases", file_choices_cases),
    EMBEDDED("beyond.cases", file_beyond_cases),
};

struct conformance_file conformance_file(size_t number) {
    const struct conformance_file none = {0};
    return number < sizeof files / sizeof files[0] ? files[number] : none;
}
