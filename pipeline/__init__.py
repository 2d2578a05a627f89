"""The Beam pipeline: a face-attribute data set in, verified WebDataset shards out."""

import logging
import warnings

# Messages of Beam and Google's libraries at import do not concern users of attparse.
logging.getLogger().addFilter(lambda record: not record.getMessage().startswith("crcmod package not found"))
warnings.filterwarnings("ignore", message="You are using a .*Python version", category=FutureWarning)
