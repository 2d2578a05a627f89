"""Installation of attparse, also used as Beam's ``--setup_file``."""

from setuptools import find_packages, setup

setup(
    name="attparse",
    version="0.1.0",
    description="Turn a face-attribute data set into training data that says where each attribute is",
    license="Apache-2.0",
    classifiers=["Private :: Do Not Upload"],
    packages=find_packages(include=["pipeline", "pipeline.*", "regions", "training"]),
    package_data={
        "pipeline.detection": ["*.npz"],
        "pipeline.release": ["*.md", "*.png"],
        "pipeline.report": ["*.css", "*.html.j2"],
        "regions": ["*.toml", "*.csv", "*.npz"],
    },
    python_requires=">=3.10,<3.13",
    install_requires=[
        "apache-beam>=2.72,<3",
        "jinja2>=3.1",
        "mediapipe>=0.10.21",  # constraints.txt pins 0.10.21, the last release with its models inside the wheel
        "msgspec>=0.19",
        "numpy>=1.26",
        "opencv-contrib-python>=4.11",  # the build that mediapipe requires: two cv2 builds overwrite each other
        "pillow>=11",
        "pyarrow>=16",
        "shapely>=2.1",
        "simplejpeg>=1.8",
        "tomli>=2; python_version < '3.11'",
        "tqdm>=4.66",
    ],
    extras_require={
        "demo": ["scikit-image>=0.25"],
        "dlib": ["dlib-bin>=20", "face_recognition_models>=0.3", "setuptools"],
        "gcp": ["apache-beam[gcp]"],
        "aws": ["apache-beam[aws]"],
        "training": [
            "matplotlib>=3.9",
            "onnx>=1.17",
            "onnxruntime>=1.20",
            "onnxscript>=0.5",  # torch.onnx.export needs it
            "orjson>=3.10",
            "scikit-learn>=1.6",
            "smart_open[gcs,http,s3]>=7.1",
            "torch>=2.6",
            "webdataset>=1.0",
        ],
        "dev": [
            "build",
            "datasets>=5",
            "duckdb>=1.4",
            "geopandas>=1.1",
            "hypothesis",
            "import-linter",
            "ipykernel",
            "mlcroissant>=1.1",
            "mypy",
            "nbclient",
            "nbformat",
            "pre-commit",
            "pytest",
            "pytest-cov",
            "pytest-timeout",
            "pytest-xdist",
            "ruff",
            "setuptools",
            "types-tqdm",
        ],
        "bench": ["litdata>=0.2.60", "psutil>=6"],
        "fuzz": ["atheris>=2.3; sys_platform == 'linux' and platform_machine == 'x86_64'"],
        "site": ["mkdocs-material>=9.5", "mkdocstrings[python]>=0.26"],
    },
    entry_points={
        "console_scripts": [
            "attparse = pipeline.cli:main",
            "attparse-train = training.train:main",
            "attparse-evaluate = training.evaluate:main",
            "attparse-predict = training.predict:main",
            "attparse-export = training.export:main",
        ]
    },
)
