"""Messages of Loki's push and of Prometheus's remote write, by their field numbers.

From push.proto of Loki, prompb/types.proto and io/prometheus/write/v2/types.proto of Prometheus.
"""

from google.protobuf import descriptor_pb2, descriptor_pool, message_factory

FIELD = descriptor_pb2.FieldDescriptorProto
SCALARS = {
    name.removeprefix("TYPE_").lower(): number
    for name, number in FIELD.Type.items()
    if name != "TYPE_MESSAGE"
}


def messages(package, outline):
    """Classes by name; ``outline`` has a line ``number type name`` for each field."""
    file = descriptor_pb2.FileDescriptorProto(name=f"{package}.proto", package=package)
    file.syntax = "proto3"
    for name, fields in outline.items():
        message = file.message_type.add(name=name)
        oneofs = {}
        for line in fields.strip().splitlines():
            number, kind, field_name, *oneof = line.split()
            field = message.field.add(name=field_name, number=int(number))
            repeated = kind.endswith("*")
            field.label = FIELD.LABEL_REPEATED if repeated else FIELD.LABEL_OPTIONAL
            kind = kind.removesuffix("*")
            if kind in SCALARS:
                field.type = SCALARS[kind]
            else:
                field.type = FIELD.TYPE_MESSAGE
                field.type_name = f".{package}.{kind}"
            if oneof:
                if oneof[0] not in oneofs:
                    oneofs[oneof[0]] = len(oneofs)
                    message.oneof_decl.add(name=oneof[0])
                field.oneof_index = oneofs[oneof[0]]
    pool = descriptor_pool.DescriptorPool()
    pool.Add(file)
    return {
        name: message_factory.GetMessageClass(pool.FindMessageTypeByName(f"{package}.{name}"))
        for name in outline
    }


HISTOGRAM = """
    1 uint64 count_int count
    2 double count_float count
    3 double sum
    4 sint32 schema
    5 double zero_threshold
    6 uint64 zero_count_int zero
    7 double zero_count_float zero
    8 Span* negative_spans
    9 sint64* negative_deltas
    11 Span* positive_spans
    12 sint64* positive_deltas
    14 int32 reset_hint
    15 int64 timestamp
    16 double* custom_values
    17 int64 start_timestamp
"""
SPAN = """
    1 sint32 offset
    2 uint32 length
"""

LOKI = messages(
    "logproto",
    {
        "PushRequest": "1 Stream* streams",
        "Stream": "1 string labels\n2 Entry* entries",
        "Entry": "1 Timestamp timestamp\n2 string line\n3 Label* metadata",
        "Timestamp": "1 int64 seconds\n2 int32 nanos",
        "Label": "1 string name\n2 string value",
    },
)

RW1 = messages(
    "prometheus",
    {
        "WriteRequest": "1 TimeSeries* timeseries\n3 Metadata* metadata",
        "TimeSeries": "1 Label* labels\n2 Sample* samples\n3 Exemplar* exemplars\n4 Histogram* histograms",
        "Label": "1 string name\n2 string value",
        "Sample": "1 double value\n2 int64 timestamp",
        "Exemplar": "1 Label* labels\n2 double value\n3 int64 timestamp",
        "Histogram": HISTOGRAM,
        "Span": SPAN,
        "Metadata": "1 int32 type\n2 string metric_family_name\n4 string help\n5 string unit",
    },
)

RW2 = messages(
    "io.prometheus.write.v2",
    {
        "Request": "4 string* symbols\n5 TimeSeries* timeseries",
        "TimeSeries": "1 uint32* labels_refs\n2 Sample* samples\n3 Histogram* histograms\n4 Exemplar* exemplars\n5 Metadata metadata",
        "Sample": "1 double value\n2 int64 timestamp\n3 int64 start_timestamp",
        "Exemplar": "1 uint32* labels_refs\n2 double value\n3 int64 timestamp",
        "Histogram": HISTOGRAM,
        "Span": SPAN,
        "Metadata": "1 int32 type\n3 uint32 help_ref\n4 uint32 unit_ref",
    },
)
