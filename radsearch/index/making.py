"""How a new collection on a server is made: its vectors, codes and graph, and its place on a cluster."""

from dataclasses import dataclass

from qdrant_client import QdrantClient, models

from radsearch.index.effort import GRAPH_CANDIDATES, GRAPH_LINKS, SCANNED_KILOBYTES
from radsearch.index.records import IndexCard, Storage

_DATATYPES = {"float32": models.Datatype.FLOAT32, "float16": models.Datatype.FLOAT16}


@dataclass(frozen=True, slots=True)
class Cluster:
    """How a new collection is spread over the nodes of a cluster; 0 leaves it to the server.

    shards: parts that nodes hold and search side by side. replicas: copies of each. write_consistency: how many of
    them must have stored a write before it counts.
    """

    shards: int = 0
    replicas: int = 0
    write_consistency: int = 0


def _codes(storage: Storage) -> models.TurboQuantization | models.ScalarQuantization | None:
    if storage.quantization == "turbo4":
        bits = models.TurboQuantBitSize.BITS4
        return models.TurboQuantization(turbo=models.TurboQuantQuantizationConfig(bits=bits, always_ram=True))
    if storage.quantization == "int8":
        scalar = models.ScalarQuantizationConfig(type=models.ScalarType.INT8, always_ram=True)
        return models.ScalarQuantization(scalar=scalar)
    return None


def make_collection(client: QdrantClient, collection: str, card: IndexCard, cluster: Cluster) -> None:
    codes = _codes(card.storage)
    client.create_collection(
        collection,
        vectors_config={
            name: models.VectorParams(
                size=model.dimension,
                distance=models.Distance.COSINE,
                datatype=_DATATYPES[card.storage.datatype],
                on_disk=codes is not None,
            )
            for name, model in card.models.items()
        },
        hnsw_config=models.HnswConfigDiff(
            m=GRAPH_LINKS, ef_construct=GRAPH_CANDIDATES, full_scan_threshold=SCANNED_KILOBYTES
        ),
        quantization_config=codes,
        shard_number=cluster.shards or None,
        replication_factor=cluster.replicas or None,
        write_consistency_factor=cluster.write_consistency or None,
        metadata=card.as_json(),
    )
