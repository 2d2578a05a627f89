"""The Beam pipeline: a face-attribute data set in, verified WebDataset shards out."""

import logging
import warnings

# What Beam and Google's libraries say when they are imported does not concern those who run attparse.
logging.getLogger().addFilter(lambda record: not record.getMessage().startswith("crcmod package not found"))
warnings.filterwarnings("ignore", message="You are using a .*Python version", category=FutureWarning)
